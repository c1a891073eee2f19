"""A split whose images are decoded batch by batch, by worker processes."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pyro_simvae.data.decoding import Format, decode
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Batch, Split, batch_factors, index_batches
from pyro_simvae.data.transfer import to_device
from pyro_simvae.data.workers import map_in_order, with_bar

PIECE = 8 * 2**20
"""Bytes of decoded images that a worker hands over at a time where a split is read from end to end."""


class StreamedSplit(Split):
    """Images decoded when they are needed; memory holds only the few batches that are under way.

    Args:
        sources: The M encoded images.
        target: What they are decoded to.
        workers: Decoding processes; 0 decodes in the training process.
        labels: (M,) int64, or None.
        factors: Known factors, each (M,).
    """

    def __init__(
        self,
        sources: Sources,
        target: Format,
        workers: int,
        labels: Tensor | None = None,
        factors: dict[str, Tensor] | None = None,
    ) -> None:
        self.sources = sources
        self.target = target
        self.workers = workers
        self.labels = labels
        self.factors = factors or {}
        self._device = torch.device("cpu")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.target.event_shape

    def __len__(self) -> int:
        return len(self.sources)

    def images(self, index: Tensor) -> Tensor:
        sources = [self.sources[i] for i in index.tolist()]
        # Threads, because PIL decodes outside the interpreter's lock and a few images do not repay a process.
        with ThreadPoolExecutor(max(self.workers, 1)) as pool:
            images = list(pool.map(lambda source: decode(source, self.target), sources))
        return (torch.stack(images) if images else torch.empty(0, *self.event_shape, dtype=torch.uint8)).to(
            self._device
        )

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        rows = index_batches(order.cpu(), batch_size)
        for row, images in zip(rows, to_device(self._decoded(rows), self._device), strict=True):
            yield Batch(images[:, None], batch_factors(self.factors, row))

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._device = torch.device(device)
        return moved

    def pieces(self, start: int = 0) -> Iterator[Tensor]:
        """All images from `start` on, in order, a few at a time (n, C, H, W) on the CPU; with a progress bar."""
        size = max(1, PIECE // torch.Size(self.event_shape).numel())
        rows = index_batches(torch.arange(start, len(self)), size)
        yield from with_bar(self._decoded(rows), len(rows), "decoding images")

    def _decoded(self, rows: list[Tensor]) -> Iterator[Tensor]:
        # As arrays: tensors would travel to the processes as shared memory, with a file descriptor each.
        arrays = [row.numpy() for row in rows]
        return map_in_order(self._decode, arrays, self.workers, pin_memory=self._device.type == "cuda")

    def _decode(self, row: np.ndarray) -> Tensor:
        return torch.stack([decode(self.sources[i], self.target) for i in row.tolist()])
