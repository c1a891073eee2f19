"""Items seen in several modalities: a split of each, side by side, and the views drawn from them."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.own_views import OwnAugmentation, OwnViews
from pyro_simvae.data.splits import Batch, Split
from pyro_simvae.data.views import Drawn, Views
from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities


class PairedSplit(Split):
    """M items, each in every modality. What other splits give as a tensor is `Modalities` here.

    Args:
        splits: {modality: its split}, in the same order of items; labels and factors are the first one's.
        present: which modalities an item has, `(M, number of modalities)` bool; None for all.

    Raises:
        InputError: splits of different lengths, or a name that cannot be a module's.
    """

    def __init__(self, splits: Mapping[str, Split], present: Tensor | None = None) -> None:
        lengths = {name: len(split) for name, split in splits.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"modalities must be paired, and there are {lengths} items: give each item in all of them")
        for name in splits:
            if not name.isidentifier() or hasattr(nn.ModuleDict, name):
                raise InputError(f"a modality cannot be called {name!r}; rename it, for example to image or photo")
        self.splits = dict(splits)
        self.present = present
        first = next(iter(splits.values()))
        self.labels, self.factors = first.labels, first.factors

    @property
    def event_shape(self) -> Any:
        """{modality: the shape of one view}."""
        return {name: split.event_shape for name, split in self.splits.items()}

    def __len__(self) -> int:
        return len(next(iter(self.splits.values())))

    def modality(self, name: str) -> Split:
        """The items that have a modality, as a split of that alone."""
        rows = torch.arange(len(self))
        if self.present is not None:
            rows = self.present[:, list(self.splits).index(name)].nonzero()[:, 0]
        factors = {factor: column[rows] for factor, column in self.factors.items()}
        return _Rows(self.splits[name], rows, None if self.labels is None else self.labels[rows], factors)

    def images(self, index: Tensor) -> Any:
        """The items at `index` (n,) int64, unaugmented: `Modalities` on this split's device."""
        return self._modalities({name: split.images(index) for name, split in self.splits.items()}, index)

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        """As for every split; the views are the modalities.

        Raises:
            InputError: If another number of views is asked for.
        """
        if num_views != len(self.splits):
            raise InputError(
                f"{num_views} views a group are asked for, but the data pairs {', '.join(self.splits)}; "
                f"set the number of views to {len(self.splits)}"
            )
        streams = zip(*(split.batches(order, batch_size, 1) for split in self.splits.values()), strict=True)
        for index, batches in zip(order.split(batch_size), streams, strict=True):
            items: Any = {name: batch.images[:, 0] for name, batch in zip(self.splits, batches, strict=True)}
            images: Any = self._modalities(items, index)
            yield Batch(images, batches[0].factors)

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved.splits = {name: split.to(device) for name, split in self.splits.items()}
        return moved

    def _modalities(self, items: Mapping[str, Tensor], index: Tensor) -> Modalities:
        if self.present is None:
            return Modalities(items)
        device = next(iter(items.values())).device
        return Modalities(items, self.present[index.cpu()].to(device))


class _Rows(Split):
    """Some of a split's items: those at `rows` (m,), with labels and factors of their own."""

    def __init__(self, split: Split, rows: Tensor, labels: Tensor | None, factors: dict[str, Tensor]) -> None:
        self.split = split
        self.rows = rows
        self.labels, self.factors = labels, factors

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.split.event_shape

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index: Tensor) -> Tensor:
        return self.split.images(self.rows[index.cpu()])

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        return self.split.batches(self.rows[order.cpu()], batch_size, num_views)

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved.split = self.split.to(device)
        return moved


class PairedViews(nn.Module):
    """One view of each modality: an augmented image, and anything else as it is. As `Views`, for `Modalities`.

    Args:
        augmentation: what is done to the images.
        event_shapes: {modality: the shape of one view}.
    """

    replayable = False  # a CUDA graph takes tensors, no modalities

    def __init__(
        self, augmentation: Augmentation | OwnAugmentation, event_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__()
        views = {
            name: views_of(augmentation if len(shape) == 3 else Augmentation(), shape)
            for name, shape in event_shapes.items()
        }
        self.views: Any = nn.ModuleDict(views)
        self._num_uniforms = [of_modality.num_uniforms for of_modality in views.values()]

    def forward(self, images: Modalities, num_views: int) -> tuple[Modalities, Drawn]:
        """Draw and augment in one; see `augment`."""
        device = next(iter(images.views.values())).device
        return self.augment(images, self.draw(len(images), num_views).to(device, non_blocking=True), num_views)

    def draw(self, num_groups: int, num_views: int) -> Tensor:
        """The randomness of a batch: (num_groups, K) in [0, 1), on the CPU; the modalities' numbers side by side."""
        return torch.rand(num_groups, sum(self._num_uniforms))

    def augment(self, images: Modalities, uniforms: Tensor, num_views: int) -> tuple[Modalities, Drawn]:
        """The views, and the parameters of the steps in use as "modality/parameter" (n, 1, ...)."""
        numbers = dict(zip(self.views, uniforms.split(self._num_uniforms, 1), strict=True))
        views: dict[str, Tensor] = {}
        parameters: Drawn = {}
        for name, items in images.views.items():
            drawn, of_steps = self.views[name].augment(items.unsqueeze(1), numbers[name], 1)
            views[name] = drawn.squeeze(1)
            parameters |= {f"{name}/{key}": value for key, value in of_steps.items()}
        return Modalities(views, images.present), parameters

    def plain(self, images: Modalities) -> Modalities:
        """The items as the networks see them, unaugmented."""
        return Modalities({name: self.views[name].plain(x) for name, x in images.views.items()}, images.present)


def views_of(augmentation: Augmentation | OwnAugmentation, event_shape: Any) -> Any:
    """`Views` of items of one shape, `PairedViews` where there is one for each modality."""
    if isinstance(event_shape, Mapping):
        return PairedViews(augmentation, event_shape)
    if isinstance(augmentation, OwnAugmentation):
        return OwnViews(augmentation, event_shape)
    return Views(augmentation, event_shape)
