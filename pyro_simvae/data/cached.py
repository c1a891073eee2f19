"""A split whose images were decoded once into a file, which is read at random."""

import copy
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pyro_simvae.data.cache import cache_folder, made_once
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Batch, Split, batch_factors, index_batches
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.data.transfer import to_device
from pyro_simvae.errors import InputError

DECODING = 1
"""To be raised when `decode` gives other pixels: files of before are not used then."""


class CachedSplit(Split):
    """Images in an .npy file; memory holds only the batch that is under way.

    Args:
        path: The file, (L, C, H, W) uint8, as `decode_once` writes it.
        rows: (M,) int64, where the split's images are in it.
        labels: (M,) int64, or None.
        factors: Known factors, each (M,).

    Raises:
        InputError: If the file was cut short.
    """

    def __init__(
        self,
        path: Path,
        rows: Tensor,
        labels: Tensor | None = None,
        factors: dict[str, Tensor] | None = None,
    ) -> None:
        try:
            file = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise _cut_short(path) from error
        self._start, self._event_shape = file.offset, file.shape[1:]
        self.path = path
        self.rows = rows
        self.labels = labels
        self.factors = factors or {}
        self._device = torch.device("cpu")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._event_shape

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index: Tensor) -> Tensor:
        return self._read(index.cpu()).to(self._device)

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        rows = index_batches(order.cpu(), batch_size)
        for row, images in zip(rows, to_device(map(self._read, rows), self._device), strict=True):
            yield Batch(images[:, None], batch_factors(self.factors, row))

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._device = torch.device(device)
        return moved

    def _read(self, index: Tensor) -> Tensor:
        # Not through a memory map: every page it touches stays resident until the map is closed, and a map opened
        # for each batch reads small images at half the speed.
        images = torch.empty(len(index), *self._event_shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        size = torch.Size(self._event_shape).numel()
        with open(self.path, "rb", buffering=0) as file:
            for image, row in zip(images.numpy(), self.rows[index].tolist(), strict=True):
                if os.preadv(file.fileno(), [image], self._start + row * size) != size:
                    raise _cut_short(self.path)
        return images


def _cut_short(path: Path) -> InputError:
    return InputError(f"{path} was cut short since it was written; remove it, and it is made anew")


def decode_once(sources: Sources, target: Format, workers: int, cache: str | None) -> Path:
    """The file that holds all images decoded, (M, C, H, W) uint8; made at first use, and gone on with if interrupted.

    It is an .npy file, named after the images' shape and a digest of the files' names, sizes and times of change:
    changed images, or another format, are another file.

    Args:
        sources: The M images.
        target: What they are decoded to.
        workers: Decoding processes.
        cache: The folder; None is the user's.

    Raises:
        InputError: If an image cannot be decoded, or the file not be written.
    """
    shape = target.event_shape
    kind = f"{'x'.join(map(str, shape))}{'-converted' if target.convert else ''}-{DECODING}"
    path = cache_folder(cache) / f"{kind}-{sources.fingerprint()[:24]}.npy"
    made_once(path, lambda partial: _write(partial, StreamedSplit(sources, target, workers)))
    return path


def _write(partial: Path, split: StreamedSplit) -> None:
    """Writes the images that `partial` lacks yet."""
    shape = split.target.event_shape
    header, size = _header(len(split), shape), torch.Size(shape).numel()
    # Not through a memory map either: a full disk would end the process by a signal.
    with partial.open("ab") as file:
        done = max(0, file.tell() - len(header)) // size
        file.truncate(len(header) + done * size if done else 0)
        if not done:
            file.write(header)
        free, needed = shutil.disk_usage(partial.parent).free, (len(split) - done) * size
        if needed > free:
            raise InputError(
                f"the decoded images take {needed / 1e9:.1f} GB more, {partial.parent} has {free / 1e9:.1f} GB free; "
                f"name a folder elsewhere with --data.cache, or decode them every epoch with --data.cache no"
            )
        for images in split.pieces(done):
            file.write(images.numpy().data)


def _header(count: int, shape: tuple[int, int, int]) -> bytes:
    """What comes before the images in an .npy file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return header.getvalue()
