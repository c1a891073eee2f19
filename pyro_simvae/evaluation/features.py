"""What a probe reads: checked features and labels of the three splits, and what several probes share."""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from pyro_simvae.errors import InputError

NUM_NEIGHBOURS = 15
"""k of the k-NN classifier: fixed, so that it needs no choosing."""

MOST_NEIGHBOURS = 45
"""The largest k that a k-NN regression may choose."""

PART = 1_000
"""Items that are standardised at once, where not all are needed together."""

Split = Literal["train", "valid", "test"]


class Features(NamedTuple):
    """Representations of the items of each split, each `(M, F)` float32."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Labels(NamedTuple):
    """Class indices of the items of each split, each `(M,)` int64."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Targets(NamedTuple):
    """Real values to predict for the items of each split, each `(M,)` or `(M, T)` float32."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Prepared:
    """Features that passed the checks, with their standardised form and neighbours, for all probes to share.

    It holds no copy of the features: whoever asks for standardised ones lets go of them before asking for more.

    Args:
        features: of the three splits; kept as they are where they are contiguous float32, else converted.

    Raises:
        InputError: A split is not `(M, F)`, F differs between the splits, a split is empty, train has fewer
            than 15 items, or a number is not finite.
    """

    def __init__(self, features: Features) -> None:
        _check_features(features)
        self.raw = Features(*(np.ascontiguousarray(split, dtype=np.float32) for split in features))

    def standardised(self, split: Split, items: np.ndarray | None = None) -> np.ndarray:
        """A split's features, shifted and scaled to zero mean and unit variance on train.

        Args:
            split: its name.
            items: indices `(m,)` of the items that are wanted; None: all.

        Returns:
            A new array `(m, F)` float32, which may be written to.
        """
        scaler = self._scaler  # fitted, which takes memory, before there is a copy
        values: np.ndarray = getattr(self.raw, split)
        chosen = values.copy() if items is None else values[items]
        return np.asarray(scaler.transform(chosen, copy=False))

    def parts(self, split: Split) -> Iterator[np.ndarray]:
        """All of a split in order, standardised, some items at a time: each `(m, F)`."""
        for items in in_parts(np.arange(len(getattr(self.raw, split)))):
            yield self.standardised(split, items)

    @cached_property
    def valid_neighbours(self) -> np.ndarray:
        """Indices of the train items that are nearest to each valid item, nearest first: `(M, k)`."""
        return self._neighbours(self.raw.valid)

    @cached_property
    def test_neighbours(self) -> np.ndarray:
        """Indices of the train items that are nearest to each test item, nearest first: `(M, k)`."""
        return self._neighbours(self.raw.test)

    @cached_property
    def _scaler(self) -> StandardScaler:
        # In parts, since the scaler holds its items several times more, in float64.
        scaler = StandardScaler()
        for items in in_parts(np.arange(len(self.raw.train))):
            scaler.partial_fit(self.raw.train[items])
        return scaler

    def _neighbours(self, queries: np.ndarray) -> np.ndarray:
        # Brute force goes by small blocks in float64, so that it needs neither copies nor centring; from about ten
        # dimensions on, trees are slower.
        count = min(MOST_NEIGHBOURS, len(self.raw.train))
        search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(self.raw.train)
        return np.asarray(search.kneighbors(queries, return_distance=False))


def spread(count: int, most: int) -> np.ndarray:
    """Indices `(m,)` of at most `most` of `count` items, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def in_parts(items: np.ndarray) -> list[np.ndarray]:
    """Indices `(m,)` in order, cut into parts of about 1,000."""
    return np.array_split(items, max(1, len(items) // PART))


def check_labels(labels: Labels, features: Prepared, name: str) -> None:
    """Raises InputError unless there is a label for every item, train holds at least two classes, and every
    class of valid and test. `name` is what the message calls the labels."""
    check_lengths(labels, features.raw, name)
    problem = labels_problem(labels)
    if problem is not None:
        raise InputError(f"{name}: {problem}: leave them out, or take more training items or a stratified split")


def check_targets(targets: Targets, features: Prepared, name: str) -> None:
    """Raises InputError unless every item has a finite target, and no split's targets are constant."""
    check_lengths(targets, features.raw, name)
    problem = targets_problem(targets)
    if problem is not None:
        raise InputError(f"{name}: {problem}: leave them out, or remove such items")


def labels_problem(labels: Labels) -> str | None:
    """Why labels cannot be probed: train holds one class, or not every class of valid and test; None if they can."""
    known = np.unique(labels.train)
    if len(known) < 2:
        return "the train split holds one class"
    for split, values in (("valid", labels.valid), ("test", labels.test)):
        missing = np.setdiff1d(values, known)
        if len(missing):
            return f"class {missing[0]} is in the {split} split but not in train"
    return None


def targets_problem(targets: Targets) -> str | None:
    """Why R² of targets is undefined: one is not finite, or a split's are constant; None if it is defined."""
    for split, values in targets._asdict().items():
        if not np.isfinite(values).all():
            return f"the values of the {split} split are not all finite"
        if (np.ptp(values, axis=0) == 0).any():
            return f"the values of the {split} split are constant: R² is undefined"
    return None


def check_lengths(values: Labels | Targets, features: Features, name: str) -> None:
    """Raises InputError unless there is one value for each item of each split."""
    for split, items in features._asdict().items():
        found, expected = len(getattr(values, split)), len(items)
        if found != expected:
            raise InputError(
                f"the {split} split has {found} {name} for {expected} items: give one for each item, in the same order"
            )


def _check_features(features: Features) -> None:
    for split, values in features._asdict().items():
        if values.ndim != 2 or values.shape[1] != features.train.shape[1]:
            raise InputError(
                f"the features of train have shape {features.train.shape}, those of {split} {values.shape}: "
                "give (items, features) with as many features in every split"
            )
        if len(values) == 0:
            raise InputError(f"the {split} split is empty: a probe needs train, valid and test items")
        if not np.isfinite(values).all():
            raise InputError(
                f"the features of the {split} split hold NaN or infinite numbers: the fit has diverged, "
                "lower its learning rate"
            )
    if len(features.train) < NUM_NEIGHBOURS:
        raise InputError(f"the train split holds {len(features.train)} items: the probes need {NUM_NEIGHBOURS} or more")
