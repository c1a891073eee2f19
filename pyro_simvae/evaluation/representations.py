"""What probes look at: every item of a split as one vector."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pyro_simvae.data import Split

Plain = Callable[[Tensor], Tensor]
"""Stored items `(n, *event)` to un-augmented views `(n, *event)`, float32."""


@torch.no_grad()
def represent(encoder: nn.Module, split: Split, plain: Plain, batch_size: int = 1024) -> np.ndarray:
    """What an encoder makes of every un-augmented item, in order.

    The encoder runs in eval mode, so that neither dropout nor the other items of a batch matter; each of its
    modules has its own mode again afterwards.

    Args:
        encoder: maps x `(n, *event)` to `(n, F)`; on the device of `split`.
        split: M items.
        plain: makes views of stored items.
        batch_size: n, at most; only memory and speed depend on it.

    Returns:
        `(M, F)` float32.
    """
    training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        return _stacked(encoder(plain(images)) for images in _batches(split, batch_size))
    finally:
        for module, mode in training.items():
            module.training = mode


def raw(split: Split, plain: Plain, batch_size: int = 1024) -> np.ndarray:
    """Every un-augmented item itself, flattened: `(M, prod(event))` float32. A representation's baseline."""
    return _stacked(plain(images).flatten(1) for images in _batches(split, batch_size))


def _batches(split: Split, batch_size: int) -> Iterator[Tensor]:
    for index in torch.arange(len(split)).split(batch_size):
        yield split.images(index)


def _stacked(rows: Iterator[Tensor]) -> np.ndarray:
    return torch.cat([row.float().cpu() for row in rows]).numpy()
