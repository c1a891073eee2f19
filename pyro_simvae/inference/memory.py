"""Whether a step fits into the device's memory, known from the program before any of it is taken."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.inference import heap
from pyro_simvae.inference.capture import Captured
from pyro_simvae.inference.elbo import LedgerELBO

EventShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""Of one view, or of one view of each modality."""
Autocast = Callable[[], AbstractContextManager[Any]]

GIB = 2**30
COPIES_OF_VIEWS = 4
"""Batches of views that augmentation holds at one time, as float32."""
MOST_PER_VIEW = 10_000
"""Nearly all steps take less than so many times the memory of their views; where that is free, nothing is looked at."""


def check_memory(
    elbo: LedgerELBO,
    event_shape: EventShape,
    num_groups: int,
    num_views: int,
    device: torch.device,
    autocast: Autocast = nullcontext,
    num_processes: int = 1,
) -> None:
    """Looks at the operations that a step would do, and at the memory that is free.

    Programs whose operations depend on numbers cannot be looked at, and pass.

    Args:
        event_shape: of the views.
        num_groups, num_views: N, J, of one process.
        num_processes: that share the batch, and on a CPU the memory, as if all were on one machine.

    Raises:
        InputError: too little memory for N; the message says how many groups would fit.
    """
    free = free_bytes(device) // (num_processes if device.type == "cpu" else 1)
    if MOST_PER_VIEW * views_bytes(views_like(event_shape, num_groups, num_views, device)) < free:
        return

    def need(groups: int) -> int:
        try:
            return step_bytes(elbo, views_like(event_shape, groups, num_views, device), autocast)
        except InputError:  # the program itself, when it is run, says what is wrong with it
            return 0

    whole = need(num_groups)
    if whole <= free:
        return
    halves = (num_groups >> shift for shift in range(1, num_groups.bit_length()))
    fitting = next((groups for groups in halves if need(groups) <= free), 0)
    what = f"takes about {whole / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on {device}"
    fits = f"about {fitting * num_processes} fit" if fitting else "not even one fits"
    raise InputError(f"a step on {num_groups * num_processes} groups {what}: {fits} (--training.num_groups)")


def step_bytes(elbo: LedgerELBO, views: Mapping[str, Tensor], autocast: Autocast = nullcontext) -> int:
    """What a step takes beside the weights: views, activations, gradients and the optimizer's moments, in bytes.

    Args:
        views: by name, as in `capture.inputs_of`; only their shapes count.

    Raises:
        InputError: the program's operations depend on numbers.
    """
    first = next(iter(views.values()))
    observed = {name: first.new_zeros((), dtype=torch.int64).expand(len(first)) for name in elbo.observes}
    captured = Captured(elbo, {**views, **observed}, autocast=autocast)
    moments = 2 * sum(p.numel() * p.element_size() for p in captured.parameters)
    return COPIES_OF_VIEWS * views_bytes(views) + captured.peak_bytes + moments


def views_like(event_shape: EventShape, num_groups: int, num_views: int, device: torch.device) -> dict[str, Tensor]:
    """Views of these shapes that take no memory: one number, seen as all of them."""
    zero = torch.zeros((), device=device)
    if isinstance(event_shape, Mapping):
        return {f"x/{name}": zero.expand(num_groups, *shape) for name, shape in event_shape.items()}
    return {"x": zero.expand(num_groups, num_views, *event_shape)}


def views_bytes(views: Mapping[str, Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in views.values())


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors could take."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    import psutil

    heap.give_back()  # what was freed and kept counts as taken otherwise
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # a container's or a job's own limit, where there is one
    try:
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


@contextmanager
def explained(num_groups: int) -> Iterator[None]:
    """Inside, want of memory is an InputError that says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(
            f"a step on {num_groups} groups takes more memory than there is: "
            f"try {max(1, num_groups // 2)} (--training.num_groups)"
        ) from error
