"""The joined batch of all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed


def gather(z: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradients to each: `(N, ...)` to `(W N, ...)`.

    Gradients of the processes' losses add up in the rows' owners; where they are then averaged, as DDP does, the
    outcome is that of one process with the joined batch.
    """
    if world_size() == 1:
        return z
    from torch.distributed.nn.functional import all_gather

    joined = torch.cat(list(all_gather(z.contiguous())))
    if joined.requires_grad:
        # all_gather's backward gives a gradient with other strides, such as a transpose's, to the wrong elements.
        joined.register_hook(lambda gradient: gradient.contiguous())
    return joined


def first_row(z: Tensor) -> int:
    """Where this process's rows `(N, ...)` begin in the joined batch."""
    return distributed.get_rank() * len(z) if world_size() > 1 else 0


def world_size() -> int:
    """Processes that share the batch."""
    if _ALONE.get():
        return 1
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process's batch is the whole: for what it does while the others do not take part."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)
