"""The joined batch of all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def gather(z: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradients to each: `(N, ...)` to `(W N, ...)`.

    Gradients of the processes' losses add up in the rows' owners; where they are then averaged, as DDP does, the
    outcome is that of one process with the joined batch.
    """
    return z if world_size() == 1 else _Gather.apply(z)


def first_row(z: Tensor) -> int:
    """Where this process's rows `(N, ...)` begin in the joined batch."""
    return distributed.get_rank() * len(z) if world_size() > 1 else 0


def world_size() -> int:
    """Processes that share the batch."""
    if _ALONE.get():
        return 1
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process's batch is the whole: for what it does while the others do not take part."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.rows = slice(first_row(z), first_row(z) + len(z))
        joined = z.new_empty(world_size() * len(z), *z.shape[1:])
        distributed.all_gather_into_tensor(joined, z.contiguous())
        return joined

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.rows]
