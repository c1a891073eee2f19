"""The precision of a limit's own arithmetic, whatever that of the networks."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def in_full(z: Tensor) -> AbstractContextManager[None]:
    """Inside, products keep the precision of their factors, also under autocast.

    Log-densities of D dimensions are hundreds of nats, of which half precision keeps the first two digits, and a
    determinant keeps nothing.
    """
    return torch.autocast(z.device.type, enabled=False)
