"""Work on many items by worker processes, in order, and a bar that shows how far it is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils import data

from pyro_simvae.errors import InputError

Item = TypeVar("Item")
Made = TypeVar("Made")


def map_in_order(
    make: Callable[[Item], Made], items: Sequence[Item], workers: int, pin_memory: bool = False
) -> Iterator[Made]:
    """`make` of each item, by processes that are a few items ahead.

    Args:
        make: Is sent to each process once. Its InputErrors arrive as they are.
        items: What it is called with.
        workers: Processes; 0 works in this one.
        pin_memory: Whether tensors come in pinned memory, for asynchronous copies to a GPU.
    """
    loader = data.DataLoader(
        _Work(make),
        batch_sampler=items,  # type: ignore[arg-type]  # what it hands to __getitems__
        num_workers=min(workers, len(items)),
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        # Else the loader would draw its workers' seed from the global generator, whose state runs resume.
        generator=torch.Generator(),
    )
    # Nothing but the loop may refer to the loader's iterator: an error then ends its processes at once.
    for made in loader:
        if isinstance(made, InputError):
            raise made
        yield made


def with_bar(made: Iterable[Made], total: int, text: str) -> Iterator[Made]:
    """The same, behind a progress bar where the output is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(made, text, total=total, console=console, transient=True, disable=not console.is_terminal)


class _Work(data.Dataset[Any], Generic[Item, Made]):
    """What a process runs. It returns an error as a value: raised, it would arrive wrapped in a traceback."""

    def __init__(self, make: Callable[[Item], Made]) -> None:
        self.make = make

    def __getitems__(self, item: Item) -> Made | InputError:
        try:
            return self.make(item)
        except InputError as error:
            return InputError(str(error))


def _as_it_is(made: Made) -> Made:
    return made
