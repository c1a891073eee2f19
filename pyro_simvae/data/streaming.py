"""A split whose image files are decoded batch by batch, by worker processes."""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import data

from pyro_simvae.data.decoding import Format, decode
from pyro_simvae.data.splits import Batch, Split, batch_factors, index_batches
from pyro_simvae.errors import InputError


class StreamedSplit(Split):
    """Image files, decoded when they are needed; memory holds only the few batches that are under way.

    Args:
        paths: The M image files.
        target: What they are decoded to.
        workers: Decoding processes; 0 decodes in the training process.
        labels: (M,) int64, or None.
        factors: Known factors, each (M,).
    """

    def __init__(
        self,
        paths: Sequence[str],
        target: Format,
        workers: int,
        labels: Tensor | None = None,
        factors: dict[str, Tensor] | None = None,
    ) -> None:
        self.paths = paths
        self.target = target
        self.workers = workers
        self.labels = labels
        self.factors = factors or {}
        self._device = torch.device("cpu")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.target.event_shape

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, index: Tensor) -> Tensor:
        paths = [self.paths[i] for i in index.tolist()]
        # Threads, because PIL decodes outside the interpreter's lock and a few images do not repay a process.
        with ThreadPoolExecutor(max(self.workers, 1)) as pool:
            images = list(pool.map(lambda path: decode(path, self.target), paths))
        return (torch.stack(images) if images else torch.empty(0, *self.event_shape, dtype=torch.uint8)).to(
            self._device
        )

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        rows = index_batches(order.cpu(), batch_size)
        for row, images in zip(rows, self._decoded(rows), strict=True):
            moved = images.to(self._device, non_blocking=True)
            yield Batch(moved[:, None], batch_factors(self.factors, row, self._device))

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._device = torch.device(device)
        return moved

    def _decoded(self, rows: list[Tensor]) -> Iterator[Tensor]:
        loader = data.DataLoader(
            _Files(self.paths, self.target),
            batch_sampler=[row.tolist() for row in rows],
            num_workers=min(self.workers, len(rows)),
            collate_fn=_as_it_is,
            pin_memory=self._device.type == "cuda",
            # Else the loader would draw its workers' seed from the global generator, whose state runs resume.
            generator=torch.Generator(),
        )
        for images in loader:
            if isinstance(images, InputError):
                raise images
            yield images


class _Files(data.Dataset[Tensor]):
    """What a worker runs. It returns an error as a value: raised, it would arrive wrapped in a traceback."""

    def __init__(self, paths: Sequence[str], target: Format) -> None:
        self.paths = paths
        self.target = target

    def __getitems__(self, index: list[int]) -> Tensor | InputError:
        try:
            return torch.stack([decode(self.paths[i], self.target) for i in index])
        except InputError as error:
            return InputError(str(error))


def _as_it_is(batch: Any) -> Any:
    return batch
