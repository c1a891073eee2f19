"""Carving splits out of others, reproducibly and in proportion to the classes."""

import torch
from torch import Tensor

from pyro_simvae.errors import InputError


def carve(count: int, fraction: float, seed: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Divide `count` items at random into a rest and a part; with labels, each class in proportion.

    The items are shuffled, sorted by label (the sort is stable) and every 1/fraction-th is taken: the part
    holds round(count * fraction) items and each class's share is right to within one item.

    Args:
        count: M, the number of items.
        fraction: The part's share, in (0, 1).
        seed: Seed of this division; no global random state is touched.
        labels: (M,) int64, or None.

    Returns:
        Indices of the rest and of the part, each ascending int64.

    Raises:
        InputError: If fraction is outside (0, 1), or either side would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a split's fraction must lie between 0 and 1, got {fraction}; take for example 0.1")
    size = round(count * fraction)
    if not 0 < size < count:
        raise InputError(f"{count} images are too few to carve a fraction of {fraction} from; add images")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    steps = torch.arange(count + 1) * size // count
    taken = steps.diff() > 0
    return order[~taken].sort().values, order[taken].sort().values


def partition(
    counts: tuple[int, int, int],
    labels: Tensor | None,
    valid_fraction: float,
    test_fraction: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where train, valid and test are among the images of all three; a missing one is carved out of train.

    Args:
        counts: Images given for train, valid and test, which follow each other in this order; 0 is a missing split.
        labels: (M,) int64 of all images, or None.
        valid_fraction: Share of the training images carved for a missing validation split, after the test split.
        test_fraction: Share of the training images carved for a missing test split.
        seed: Chooses the carved images.

    Returns:
        Indices, ascending int64.

    Raises:
        InputError: As `carve` does.
    """
    train, valid, test = torch.arange(sum(counts)).split(counts)

    def carved(fraction: float) -> tuple[Tensor, Tensor]:
        rest, part = carve(len(train), fraction, seed, None if labels is None else labels[train])
        return train[rest], train[part]

    if not len(test):
        train, test = carved(test_fraction)
    if not len(valid):
        train, valid = carved(valid_fraction)
    return train, valid, test
