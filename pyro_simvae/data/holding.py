"""Where decoded images are kept: in memory, in a file of the cache, or nowhere."""

import torch
from torch import Tensor

from pyro_simvae.data.cached import CachedSplit, decode_once
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Splits
from pyro_simvae.data.streaming import StreamedSplit

MEMORY_BUDGET = 512 * 2**20
"""Bytes of decoded images up to which a data set is held in memory."""


def hold(
    sources: Sources,
    parts: tuple[Tensor, Tensor, Tensor],
    target: Format,
    workers: int,
    cache: str | None,
    labels: Tensor | None = None,
    factors: dict[str, Tensor] | None = None,
) -> Splits:
    """Splits of a set of images, held as its size asks.

    What takes at most 512 MiB decoded is decoded now and held in memory. More is decoded at first use into a file of
    uint8 in the cache, which later epochs and runs read; without a cache, every epoch.

    Args:
        sources: The M images of all splits.
        parts: Where train, valid and test are among them, each (m,) int64.
        target: What they are decoded to.
        workers: Decoding processes.
        cache: The folder of the cache, None for the user's, or "no".
        labels: (M,) int64, or None.
        factors: Known factors, each (M,).

    Raises:
        InputError: If an image cannot be decoded, or the cache not be written.
    """
    tables = [
        (None if labels is None else labels[part], {name: column[part] for name, column in (factors or {}).items()})
        for part in parts
    ]
    streamed = [
        StreamedSplit(sources.take(part), target, workers, *table) for part, table in zip(parts, tables, strict=True)
    ]
    if len(sources) * torch.Size(target.event_shape).numel() <= MEMORY_BUDGET:
        return Splits(*map(_in_memory, streamed))
    if cache == "no":
        return Splits(*streamed)
    path = decode_once(sources, target, workers, cache)
    return Splits(*(CachedSplit(path, part, *table) for part, table in zip(parts, tables, strict=True)))


def _in_memory(split: StreamedSplit) -> MemorySplit:
    images = torch.empty(len(split), *split.event_shape, dtype=torch.uint8)
    done = 0
    for piece in split.pieces():
        images[done : done + len(piece)] = piece
        done += len(piece)
    return MemorySplit(images, split.labels, split.factors)
