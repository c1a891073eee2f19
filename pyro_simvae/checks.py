"""What a story asks of its arguments."""

import math

from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities


def positive(name: str, value: float, finite: bool = False) -> float:
    """`value`, if it is positive (and, where asked, finite). Raises InputError otherwise."""
    if not value > 0 or (finite and math.isinf(value)):
        raise InputError(f"{name} is {value}: give a positive{' finite' if finite else ''} number")
    return float(value)


def plate_sizes(x: Tensor | Modalities | None, num_groups: int, num_views: int) -> tuple[int, int]:
    """(N, J): of the views `x` `(N, J, *event)` where they are given, else the numbers asked for.

    Raises:
        InputError: N or J is less than one.
    """
    if x is not None:
        num_groups, num_views = x.shape[:2]
    for name, size in (("num_groups", num_groups), ("num_views", num_views)):
        if size < 1:
            raise InputError(f"{name} is {size}: give 1 or more")
    return num_groups, num_views
