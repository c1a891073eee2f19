"""What a data set is: three splits, each an indexable collection of items that yields batches of groups."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Batch(NamedTuple):
    """A batch of n groups.

    images: (n, K, *event). K = 1: one item a group, still to be augmented into J views. K = J: views that the
        data itself draws. uint8 in [0, 255] or float32 in [0, 1] for images, real float32 for vectors.
        Paired data gives `Modalities` instead.
    factors: the known factors of each of the K items, (n, K) float32, on the CPU where they are looked up in a
        table; may be empty.
    """

    images: Tensor
    factors: dict[str, Tensor]


class Split(ABC):
    """One of train, valid and test: M items.

    labels: (M,) int64 class indices, or None.
    factors: known generative factors, each (M,): float32 if continuous, int64 if categorical; may be empty.
    most_views: how many views a group can have; None if any number.

    Labels and factors are tables for evaluation and stay on the CPU; images and batches follow `to`.
    """

    labels: Tensor | None
    factors: dict[str, Tensor]
    most_views: int | None = None

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one view: (C, H, W) for images, (P,) for vectors."""

    @abstractmethod
    def __len__(self) -> int:
        """M, the number of items."""

    @abstractmethod
    def images(self, index: Tensor) -> Tensor:
        """The items at `index` (n,) int64, unaugmented: (n, *event) on this split's device."""

    @abstractmethod
    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        """Batches of at most `batch_size` groups along `order`, on the device; the last may be smaller.

        Args:
            order: (m,) int64 indices of the items, one group each.
            batch_size: Groups a batch.
            num_views: J; only splits that draw views themselves look at it.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """This split with its images and batches on `device`; the original is left as it is."""


class Splits(NamedTuple):
    """The three splits of a data set. Hyperparameters are chosen on valid; test is only reported."""

    train: Split
    valid: Split
    test: Split


class Dataset(ABC):
    """What `--data` names; the arguments of the constructor are its options.

    views: name of the augmentation that suits it (a data set that depends on its files settles it in `load`).
    classes: names of the label values, once loaded; None without labels.
    content_factors: the factors that the views of a group share, the others being style; None if all.
    """

    views: str
    classes: list[str] | None = None
    content_factors: tuple[str, ...] | None = None

    @abstractmethod
    def load(self) -> Splits:
        """Read the data.

        Raises:
            InputError: If the data cannot be found, read or split as the options ask.
        """


def index_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """`order` (m,) cut into consecutive pieces of at most `batch_size`; none if it is empty."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def batch_factors(factors: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Rows `index` (n,) of a table of factors, as `Batch.factors` with K = 1: (n, 1) float32, where the table is."""
    return {name: column[index, None].float() for name, column in factors.items()}
