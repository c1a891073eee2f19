"""What a table of a comparison says: mean ± sd over seeds, the best, and who differs from the reference."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from pyro_simvae.comparison.grid import Grid
from pyro_simvae.comparison.methods import RAW
from pyro_simvae.comparison.results import sign

LEVEL = 0.05
"""Of the tests against the reference, after Holm's correction."""


class Column(NamedTuple):
    """A column of a table: one metric on one target of one representation."""

    heading: str
    target: str
    metric: str
    representation: str = "z"


HEADLINE = (
    Column("15-NN", "label", "knn"),
    Column("linear", "label", "linear"),
    Column("MLP", "label", "mlp"),
    Column("k-means", "label", "kmeans_accuracy"),
    Column("GMM", "label", "gmm_accuracy"),
    Column("content, linear", "content", "linear"),
    Column("content, kernel", "content", "kernel"),
    Column("style, linear", "style", "linear"),
    Column("style, kernel", "style", "kernel"),
    Column("bound, nats", "none", "bound", "story"),
)
LABEL_FREE = (
    Column("RankMe", "none", "rankme"),
    Column("active units", "none", "active_units"),
    Column("alignment", "none", "alignment"),
    Column("uniformity", "none", "uniformity"),
)
"""What the headline shows of data that has neither labels nor known factors."""
COST = (Column("seconds", "none", "seconds", "fit"),)


class Entry(NamedTuple):
    """A cell of a table.

    mean, sd: over the seeds; sd is NaN with one seed.
    num_seeds: how many.
    best: the best of its column, among methods that do not see the labels.
    p: of Welch's t-test against the reference, after Holm's correction over the methods; NaN where not tested.
    decimals: to print.
    """

    mean: float
    sd: float
    num_seeds: int
    best: bool
    p: float
    decimals: int = 3

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def __str__(self) -> str:
        """Mean ± sd."""
        spread = "" if math.isnan(self.sd) else f" ± {self.sd:.{self.decimals}f}"
        return f"{self.mean:.{self.decimals}f}".replace("-", "−") + spread


Table = dict[str, dict[Column, Entry]]
"""By method, then by column; what a method does not have is not in it."""


def headline(scores: pd.DataFrame) -> list[Column]:
    """The columns of the table that a reader sees first: those of which there are scores.

    Args:
        scores: of one data set.
    """
    shown = [column for column in HEADLINE if _has(scores, column)]
    if not any(column.target in ("label", "content", "style") for column in shown):
        shown += [column for column in LABEL_FREE if _has(scores, column)]
    return shown + [column for column in COST if _has(scores, column)]


def every(scores: pd.DataFrame) -> dict[str, list[Column]]:
    """All columns of which there are scores, by representation, in order of appearance."""
    keys = scores[["representation", "target", "metric"]].drop_duplicates()
    columns: dict[str, list[Column]] = {}
    for representation, target, metric in keys.itertuples(index=False):
        name = metric if target == "none" else f"{target}: {metric}"
        if representation != RAW:  # which stands in the row of its own method
            columns.setdefault(representation, []).append(Column(name, target, metric, representation))
    return columns


def summarize(scores: pd.DataFrame, columns: Sequence[Column], grid: Grid) -> Table:
    """Means, spreads, tests and the best of each column.

    Args:
        scores: of one data set.
        columns: to fill.
        grid: its order of methods, and its reference.
    """
    table: Table = {name: {} for name in grid.methods}
    for column in columns:
        values = {name: found for name in grid.methods if len(found := values_of(scores, name, column))}
        # What a run has cost is told, not judged.
        judged = column.representation not in ("fit", "evaluation")
        p = against(values, grid.reference) if judged else {}
        best = _best(values, column.metric, grid) if judged else []
        for name, found in values.items():
            mean = float(found.mean())
            decimals = 1 if not judged else 3 if abs(mean) < 10 else 1 if abs(mean) < 1000 else 0
            table[name][column] = Entry(mean, _sd(found), len(found), name in best, p.get(name, math.nan), decimals)
    return table


def values_of(scores: pd.DataFrame, method: str, column: Column) -> np.ndarray:
    """The values of a method in a column, one a seed; raw input stands where others have z."""
    representation = RAW if method == RAW and column.representation == "z" else column.representation
    rows = scores[
        (scores["method"] == method)
        & (scores["representation"] == representation)
        & (scores["target"] == column.target)
        & (scores["metric"] == column.metric)
    ]
    found = rows["value"].to_numpy()
    return found[np.isfinite(found)]


def against(values: Mapping[str, np.ndarray], reference: str) -> dict[str, float]:
    """p-values of two-sided Welch t-tests of every method against the reference, Holm-corrected.

    Args:
        values: by method, one a seed.
        reference: a method; without two of its values nothing is tested.

    Returns:
        By method, for those with two or more values. Two methods without any spread are not tested.
    """
    base = values.get(reference, np.empty(0))
    p = {}
    for name, found in values.items():
        if name == reference or len(base) < 2 or len(found) < 2 or (np.ptp(found) == 0 and np.ptp(base) == 0):
            continue
        # From the moments: the spread of equal numbers is then zero, where rounding would leave a little.
        moments = (moment for v in (found, base) for moment in (v.mean(), _sd(v), len(v)))
        p[name] = float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)
    return holm(p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the k-th smallest of m p-values times m - k + 1, made monotone, at most 1.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, value * (len(p) - rank)))
        corrected[name] = largest
    return corrected


def _best(values: Mapping[str, np.ndarray], metric: str, grid: Grid) -> list[str]:
    """The methods with the best mean; none where the metric has no better and worse, or no two methods have it."""
    direction = sign(metric)
    if direction == 0:
        return []
    peers = {name: direction * float(v.mean()) for name, v in values.items() if not grid.methods[name].sees_labels}
    if len(peers) < 2:
        return []
    top = max(peers.values())
    return [name for name, mean in peers.items() if mean == top]


def _sd(values: np.ndarray) -> float:
    """The sample standard deviation; exactly zero of equal values, NaN of one."""
    if len(values) < 2:
        return math.nan
    return 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))


def _has(scores: pd.DataFrame, column: Column) -> bool:
    return bool(
        (
            (scores["representation"] == column.representation)
            & (scores["target"] == column.target)
            & (scores["metric"] == column.metric)
        ).any()
    )
