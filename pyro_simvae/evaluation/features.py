"""What a probe reads: checked features and labels of the three splits, and what several probes share."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from pyro_simvae.errors import InputError

NUM_NEIGHBOURS = 15
"""k of the k-NN classifier: fixed, so that it needs no choosing."""

MOST_NEIGHBOURS = 45
"""The largest k that a k-NN regression may choose."""

QUERIES = 512
"""Items whose neighbours are searched at once."""


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
    """Features that passed the checks, with their scaled form and neighbours, computed once for all probes.

    Args:
        features: of the three splits.

    Raises:
        InputError: A split is not `(M, F)`, F differs between the splits, a split is empty, train has fewer
            than 15 items, or a number is not finite.
    """

    def __init__(self, features: Features) -> None:
        _check_features(features)
        self.raw = Features(*(np.ascontiguousarray(split, dtype=np.float32) for split in features))

    @cached_property
    def scaled(self) -> Features:
        """The features shifted and scaled to zero mean and unit variance on train."""
        scaler = StandardScaler().fit(self.raw.train)
        return Features(*(scaler.transform(split) for split in self.raw))

    @cached_property
    def valid_neighbours(self) -> np.ndarray:
        """Indices of the train items that are nearest to each valid item, nearest first: `(M, k)`."""
        return self._neighbours(self.raw.valid)

    @cached_property
    def test_neighbours(self) -> np.ndarray:
        """Indices of the train items that are nearest to each test item, nearest first: `(M, k)`."""
        return self._neighbours(self.raw.test)

    def _neighbours(self, queries: np.ndarray) -> np.ndarray:
        # One matrix product a chunk: from about ten dimensions on, trees are slower. Centred, so that the squares
        # do not outgrow the differences; |query|² is left out, since it changes no order.
        centre = self.raw.train.mean(axis=0)
        train = torch.from_numpy(self.raw.train - centre)
        squares = train.square().sum(1)
        count = min(MOST_NEIGHBOURS, len(train))
        chunks = torch.from_numpy(queries - centre).split(QUERIES)
        nearest = [(squares - 2 * chunk @ train.T).topk(count, largest=False).indices for chunk in chunks]
        return torch.cat(nearest).numpy()


def check_labels(labels: Labels, features: Prepared, name: str) -> None:
    """Raises InputError unless there is a label for every item, train holds at least two classes, and every
    class of valid and test. `name` is what the message calls the labels."""
    _check_lengths(labels, features, name)
    known = np.unique(labels.train)
    if len(known) < 2:
        raise InputError(f"the train split holds one class of the {name}: there is nothing to tell apart, leave it out")
    for split, values in (("valid", labels.valid), ("test", labels.test)):
        missing = np.setdiff1d(values, known)
        if len(missing):
            raise InputError(
                f"class {missing[0]} of the {name} is in the {split} split but not in train: "
                "use more training items, or a stratified split"
            )


def check_targets(targets: Targets, features: Prepared, name: str) -> None:
    """Raises InputError unless every item has a finite target, and no split's targets are constant."""
    _check_lengths(targets, features, name)
    for split, values in targets._asdict().items():
        if not np.isfinite(values).all():
            raise InputError(f"the {name} of the {split} split are not all finite: remove these items")
        if (np.ptp(values, axis=0) == 0).any():
            raise InputError(f"the {name} of the {split} split are constant: R² is undefined, leave them out")


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


def _check_lengths(values: Labels | Targets, features: Prepared, name: str) -> None:
    for split, items in features.raw._asdict().items():
        found, expected = len(getattr(values, split)), len(items)
        if found != expected:
            raise InputError(
                f"the {split} split has {found} {name} for {expected} items: give one for each item, in the same order"
            )
