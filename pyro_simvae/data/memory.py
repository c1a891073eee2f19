"""A split whose items fit in memory as one tensor."""

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from pyro_simvae.data.splits import Batch, Split, batch_factors, index_batches


class MemorySplit(Split):
    """Images held as one tensor, which moves to the device as it is: uint8 costs a quarter of float32.

    Args:
        images: (M, C, H, W), uint8 in [0, 255] or float32 in [0, 1].
        labels: (M,) int64, or None.
        factors: Known factors, each (M,).
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, factors: dict[str, Tensor] | None = None) -> None:
        self._images = images
        self.labels = labels
        self.factors = factors or {}

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._images)

    def images(self, index: Tensor) -> Tensor:
        return self._images[index.to(self._images.device)]

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        rows = order.cpu()
        # One transfer of the whole order, not one a batch: small copies to a GPU cost more than the indexing.
        for index, row in zip(
            index_batches(order.to(self._images.device), batch_size),
            index_batches(rows, batch_size),
            strict=True,
        ):
            yield Batch(self._images[index, None], batch_factors(self.factors, row))

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._images = self._images.to(device)
        return moved
