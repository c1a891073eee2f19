"""Coloured shapes whose every generative factor is known, drawn on demand."""

import copy
import math
from collections.abc import Iterator
from typing import Literal, Self

import torch
from torch import Tensor

from pyro_simvae.data.shapes import SHAPES, draw
from pyro_simvae.data.splits import Batch, Dataset, Split, Splits, batch_factors, index_batches
from pyro_simvae.errors import InputError, unknown_name

RANGES: dict[str, tuple[float, float]] = {
    "hue": (0.0, 1.0),
    "x": (-0.3, 0.3),
    "y": (-0.3, 0.3),
    "scale": (0.45, 0.7),
    "rotation": (0.0, 2 * math.pi),
    "background": (0.0, 0.5),
}
"""The continuous factors, each uniform on its range, in the units of `draw`; no shape leaves the image."""

TEST_SEED = 20_000
"""Fixes the test images, whatever the split seed, so that scores stay comparable."""

SMALLEST = 16
"""Side in pixels below which small shapes can no longer be told apart."""


class SpriteSplit(Split):
    """Shapes drawn from a table of factors.

    Args:
        factors: The table, each (M,).
        size: Side of the images in pixels.
        content: The factors that the views of a group share, the others being drawn anew for each view; None
            makes a group of one image, still to be augmented.
    """

    def __init__(self, factors: dict[str, Tensor], size: int, content: tuple[str, ...] | None) -> None:
        self.factors = factors
        self.labels: Tensor = factors["shape"]
        self.size = size
        self.content = content
        self._table = factors

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Tensor) -> Tensor:
        return draw(self._rows(index), self.size)

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        device = self._table["shape"].device
        for index in index_batches(order.to(device), batch_size):
            if self.content is None:
                yield Batch(self.images(index)[:, None], batch_factors(self._table, index))
            else:
                yield self._group(index, self.content, num_views)

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._table = {name: column.to(device) for name, column in self._table.items()}
        return moved

    def _rows(self, index: Tensor) -> dict[str, Tensor]:
        return {name: column[index.to(column.device)] for name, column in self._table.items()}

    def _group(self, index: Tensor, content: tuple[str, ...], num_views: int) -> Batch:
        """J views of each item: its content, and styles from the global generator, which runs resume."""
        factors = draw_factors(len(index) * num_views, None, index.device)
        shared = self._rows(index)
        for name in content:
            factors[name] = shared[name].repeat_interleave(num_views)
        images = draw(factors, self.size).view(len(index), num_views, *self.event_shape)
        return Batch(images, {name: f.float().view(len(index), num_views) for name, f in factors.items()})


class Sprites(Dataset):
    """Twelve shapes in any hue, position, size and direction, on grey; labels are the shapes.

    Args:
        num_images: Training images; a tenth as many are added for validation and a fifth for the test.
        size: Side of the images in pixels, at least 16.
        groups: "content": the views of a group share some factors and differ in the others. "augment": they
            are augmentations of one image.
        content: The factors shared in a group: some of shape, hue, x, y, scale, rotation, background.
        split_seed: Draws the training and validation images; the test images do not depend on it.

    Raises:
        InputError: If an option is out of range or names no factor.
    """

    def __init__(
        self,
        num_images: int = 20_000,
        size: int = 32,
        groups: Literal["content", "augment"] = "content",
        content: tuple[str, ...] = ("shape", "hue"),
        split_seed: int = 0,
    ) -> None:
        if num_images < 10:
            raise InputError(f"{num_images} images are too few for three splits; set --data.num_images to 10 or more")
        if size < SMALLEST:
            raise InputError(f"shapes blur at {size} pixels; set --data.size to {SMALLEST} or more")
        if groups not in ("content", "augment"):
            raise unknown_name("way to group sprites", groups, ["content", "augment"])
        names = ["shape", *RANGES]
        for name in content:
            if name not in names:
                raise unknown_name("content factor", name, names)
        if not content or set(content) == set(names):
            raise InputError("the views of a group must share some factors but not all; name a few in --data.content")
        self.num_images = num_images
        self.size = size
        self.groups = groups
        self.content = tuple(content)
        self.content_factors = self.content if groups == "content" else None
        self.split_seed = split_seed
        self.views = "sprites" if groups == "augment" else "none"

    def load(self) -> Splits:
        self.classes = list(SHAPES)
        generator = torch.Generator().manual_seed(self.split_seed)
        cpu = torch.device("cpu")
        tables = (
            draw_factors(self.num_images, generator, cpu),
            draw_factors(self.num_images // 10, generator, cpu),
            draw_factors(self.num_images // 5, torch.Generator().manual_seed(TEST_SEED), cpu),
        )
        content = self.content if self.groups == "content" else None
        return Splits(*(SpriteSplit(table, self.size, content) for table in tables))


def draw_factors(count: int, generator: torch.Generator | None, device: torch.device) -> dict[str, Tensor]:
    """All factors of `count` sprites, each (count,): shape int64, the others float32.

    Without a generator they come from torch's global one.
    """
    factors = {"shape": torch.randint(len(SHAPES), (count,), generator=generator, device=device)}
    for name, (low, high) in RANGES.items():
        factors[name] = low + (high - low) * torch.rand(count, generator=generator, device=device)
    return factors
