"""What a representation is asked for: labels, known factors, and the parameters that views were drawn with."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pyro_simvae.data import Splits
from pyro_simvae.evaluation.features import Labels, Targets
from pyro_simvae.evaluation.representations import Viewed

PERIODS = {"hue": 1.0, "rotation": 2 * math.pi}
"""The factors that go round, with the length of a round."""

CHOICES = {"horizontal_flip", "vertical_flip", "grayscale"}
"""The parameters of views that are one thing or the other."""


class Tables(NamedTuple):
    """The labels and factors of the items of three splits.

    Attributes:
        labels: None where the data has none.
        factors: by name.
        content: the factors that the views of a group share.
    """

    labels: Labels | None
    factors: dict[str, Labels | Targets]
    content: tuple[str, ...]

    @property
    def style(self) -> list[str]:
        """The factors that are drawn anew for each view."""
        return [name for name in self.factors if name not in self.content]


def tables(splits: Splits, content_factors: tuple[str, ...] | None) -> Tables:
    """The labels and factors of a data set.

    Args:
        content_factors: those that the views of a group share; None: all.
    """
    labels = None
    if all(split.labels is not None for split in splits):
        labels = Labels(*(_array(split.labels) for split in splits))
    factors = {
        name: (Targets if column.is_floating_point() else Labels)(*(_array(split.factors[name]) for split in splits))
        for name, column in splits.train.factors.items()
    }
    return Tables(labels, factors, tuple(factors) if content_factors is None else content_factors)


def of_views(viewed: tuple[Viewed, Viewed, Viewed], items: Tables) -> dict[str, Labels | Targets]:
    """What the first view of each group was drawn with, in the three splits, by name.

    Args:
        viewed: of train, valid and test.
        items: of the same data, which knows the factors that are integers.
    """
    found: dict[str, Labels | Targets] = {}
    for name in viewed[0].parameters:
        columns = [split.parameters[name] for split in viewed]
        if name in CHOICES or isinstance(items.factors.get(name), Labels):
            found[name] = Labels(*(column.round().astype(np.int64) for column in columns))
        else:
            found[name] = Targets(*columns)
    return found


def periods_of(names: Mapping[str, object], items: Tables) -> dict[str, float]:
    """The periods of those targets that are factors and go round; a view's rotation by a few degrees does not."""
    return {name: PERIODS[name] for name in names if name in PERIODS and name in items.factors}


def _array(values: Tensor | None) -> np.ndarray:
    assert values is not None
    return values.numpy()
