"""What a story asks of its arguments."""

import math

from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities


def positive(name: str, value: float, finite: bool = False) -> float:
    """`value`, if it is positive (and, where asked, finite). Raises InputError otherwise."""
    if not value > 0 or (finite and math.isinf(value)):
        raise InputError(f"{name} is {value}: give a positive{' finite' if finite else ''} number")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """`value`, if it is zero or positive, and finite. Raises InputError otherwise."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name} is {value}: give zero or a positive finite number")
    return float(value)


def fraction(name: str, value: float) -> float:
    """`value`, if it is in [0, 1]. Raises InputError otherwise."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: give a number from 0 to 1")
    return float(value)


def count(name: str, value: int, least: int = 1) -> int:
    """`value`, if it is a whole number and at least `least`. Raises InputError otherwise."""
    if value != int(value) or value < least:
        raise InputError(f"{name} is {value}: give a whole number, {least} or more")
    return int(value)


def same_dim(owner: object, built: int, dim: int) -> None:
    """Raises InputError where state that was built for one latent dimension meets another."""
    if built != dim:
        name = type(owner).__name__
        raise InputError(f"this {name} was built for D = {built} and meets D = {dim}: make one for each dimension")


def in_range(name: str, value: Tensor, size: int) -> None:
    """Looks at indices while Pyro's validation is on, since it waits for the device.

    Raises:
        InputError: an index outside [0, size).
    """
    if is_validation_enabled() and not (value.min() >= 0 and value.max() < size):
        raise InputError(
            f"{name} lie in [{value.min().item()}, {value.max().item()}]: give whole numbers from 0 to {size - 1}"
        )


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
