"""What probes look at: every item of a split as one vector, and its views with what they were drawn with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae.data import Split, Views
from pyro_simvae.evaluation.encoders import content_of, latent_of
from pyro_simvae.inference import rng

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
    with evaluating(encoder):
        return _filled(len(split), (encoder(plain(images)) for images in _batches(split, batch_size)))


def raw(split: Split, plain: Plain, batch_size: int = 1024) -> np.ndarray:
    """Every un-augmented item itself, flattened: `(M, prod(event))` float32. A representation's baseline."""
    return _filled(len(split), (plain(images).flatten(1) for images in _batches(split, batch_size)))


@torch.no_grad()
def posteriors(guide: nn.Module, split: Split, plain: Plain, batch_size: int = 1024) -> list[dist.TorchDistribution]:
    """q(z | x) of every un-augmented item, in order and batch by batch: batch shape `(n, 1)`, event shape `(D,)`.

    Args:
        guide: on the device of `split`.
        split, plain, batch_size: as for `represent`.
    """
    with evaluating(guide):
        return [latent_of(guide, plain(images).unsqueeze(1)) for images in _batches(split, batch_size)]


class Viewed(NamedTuple):
    """A group of views of each of M items, as a guide sees them.

    Attributes:
        z: the loc of each of the first K views' latents, `(M, K, D)`.
        content: the mean of q(content | z_1..J) of each group, `(M, C)`; None where there is no content.
        parameters: what the first view of each group was drawn with, by name: `(M,)` or `(M, T)`, float32.
    """

    z: np.ndarray
    content: np.ndarray | None
    parameters: dict[str, np.ndarray]

    @property
    def style(self) -> np.ndarray | None:
        """z - content of the first view of each group, `(M, D)`.

        Where the content has C < D dimensions, they are the first of z, and style is the others: `(M, D - C)`.
        """
        if self.content is None:
            return None
        first, shared = self.z[:, 0], self.content.shape[1]
        return first - self.content if shared == first.shape[1] else first[:, shared:]


@torch.no_grad()
def represent_views(
    guide: nn.Module,
    split: Split,
    views: Views,
    num_views: int,
    seed: int,
    keep: int = 1,
    most: int | None = None,
    batch_size: int = 512,
) -> Viewed:
    """Draws a group of views of every item, in order, and has the guide look at it.

    Args:
        guide: on the device of `split`.
        split: M items.
        views: draws the views.
        num_views: J.
        seed: of the views; the same seed gives the same views to every guide.
        keep: K, views whose latents are kept.
        most: the first so many items only.
        batch_size: groups at once.
    """
    count = len(split) if most is None else min(most, len(split))
    z, content, parameters = _Rows(count), _Rows(count), dict[str, _Rows]()
    with evaluating(guide), rng.isolated(seed):
        for batch in split.batches(torch.arange(count), batch_size, num_views):
            x, drawn = views(batch.images, num_views)
            locs = latent_of(guide, x).mean
            z.append(locs[:, :keep])
            shared = content_of(guide, x, locs)
            if shared is not None:
                content.append(shared)
            if batch.images.shape[1] > 1:  # views that the data draws itself
                drawn = drawn | batch.factors
            for name, values in drawn.items():
                parameters.setdefault(name, _Rows(count)).append(values[:, 0])
    found = {name: rows.filled for name, rows in parameters.items()}
    return Viewed(z.filled, content.filled if content.done else None, found)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """All of a module's parts in eval mode for a while."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def _batches(split: Split, batch_size: int) -> Iterator[Tensor]:
    for index in torch.arange(len(split)).split(batch_size):
        yield split.images(index)


def _filled(count: int, parts: Iterator[Tensor]) -> np.ndarray:
    rows = _Rows(count)
    for part in parts:
        rows.append(part)
    return rows.filled


class _Rows:
    """Rows of float32 that arrive part by part, put under each other without a second copy.

    Args:
        count: of all rows.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self.filled = np.empty(0, dtype=np.float32)

    def append(self, part: Tensor) -> None:
        if self.done == 0:
            self.filled = np.empty((self.count, *part.shape[1:]), dtype=np.float32)
        self.filled[self.done : self.done + len(part)] = part.float().cpu().numpy()
        self.done += len(part)
