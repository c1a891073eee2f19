"""The joined batch of all processes.

What travels between processes does so by torch's functional collectives, operators that a traced graph can hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")

if distributed.is_available():
    import torch.distributed._functional_collectives
functional = torch.ops._c10d_functional
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def gather(z: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradients to each: `(N, ...)` to `(W N, ...)`.

    Gradients of the processes' losses add up in the rows' owners. With the mean of the losses as the joint one, the
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


def of_all(value: T) -> list[T]:
    """Every process's value, in the order of ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process's batch is the whole: for what it does while the others do not take part."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def rows_of_all(z: Tensor) -> Tensor:
    """The rows of all processes, without gradients: `(N, ...)` to `(W N, ...)`."""
    return functional.wait_tensor(functional.all_gather_into_tensor(z.contiguous(), world_size(), _group()))


def total_of_all(z: Tensor) -> Tensor:
    """The sum over processes, without gradients; z is contiguous."""
    return functional.wait_tensor(functional.all_reduce(z, "sum", _group()))


def _group() -> str:
    group = distributed.group.WORLD
    assert group is not None
    return group.group_name


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.rows = slice(first_row(z), first_row(z) + len(z))
        return rows_of_all(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total_of_all(gradient.contiguous())[ctx.rows]
