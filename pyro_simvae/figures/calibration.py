"""Figures of a calibration: histograms of ranks, and the coverage of central intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from pyro_simvae.figures.canvas import BLUE, ORANGE, QUIET, blank, tidy
from pyro_simvae.figures.panels import headline, panels, view_look
from pyro_simvae.inspection.calibration import MOST_BINS, Calibration, covered_by

BAND = 0.95
"""Probability that all bins of all dimensions of a site lie within the band, at least."""

COVERAGE_LEVELS = np.linspace(0.05, 0.95, 19)


def rank_histograms(calibration: Calibration) -> Figure:
    """A panel a site: the histogram of each dimension's ranks, over what uniform ranks would do.

    The band is binomial, and wide enough that with probability 0.95 or more no bin of any dimension leaves it
    (Bonferroni): a histogram that leaves it is not uniform. Of each group one view is looked at, as in
    `calibration.uniformity`, so that the ranks of a dimension are independent. The dimension that is furthest from
    uniform is drawn in orange.

    Source: Talts et al. 2018 (arXiv:1804.06788).
    """
    fig, drawn = panels(len(calibration.ranks), 3, 3.6, 2.8)
    for axes, (name, ranks) in zip(drawn, calibration.ranks.items(), strict=True):
        of_one_view = ranks if ranks.ndim == 2 else ranks[np.arange(len(ranks)), np.arange(len(ranks)) % ranks.shape[1]]
        _histogram(axes, of_one_view, calibration.num_draws)
        tidy(
            axes,
            f"{name}: p = {calibration.p_value[name]:.2g}",
            "rank of the truth, as a share",
            "frequency, uniform = 1",
        )
    headline(
        fig,
        "Ranks of the truth among posterior draws: a U is a guide too narrow, a hump too wide, a slope shifted\n"
        f"a line a dimension, orange: furthest from uniform; grey: where uniform ones stay ({BAND:.0%}, all at once)",
    )
    return fig


def coverage_curves(calibration: Calibration) -> Figure:
    """How often central intervals of the guide hold the truth, by their level, with two standard errors each way."""
    fig = blank(5.0, 4.6)
    axes = fig.add_subplot()
    tidy(axes, "Coverage of the guide's central intervals", "level of the interval", "share that holds the truth")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="dashed", label="calibrated")
    for index, (name, ranks) in enumerate(calibration.ranks.items()):
        by_group = np.array([covered_by(ranks, calibration.num_draws, float(level)) for level in COVERAGE_LEVELS])
        share, error = by_group.mean(1), 2 * stats.sem(by_group, axis=1)
        colour, line = view_look(index)
        axes.fill_between(COVERAGE_LEVELS, share - error, share + error, color=colour, alpha=0.2, linewidth=0)
        axes.plot(COVERAGE_LEVELS, share, color=colour, linestyle=line, linewidth=1.5, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=QUIET)
    return fig


def _histogram(axes: Axes, ranks: np.ndarray, num_draws: int) -> None:
    """ranks `(N, F)`."""
    num_groups, num_dims = ranks.shape
    bins = np.array_split(np.arange(num_draws + 1), max(1, min(MOST_BINS, num_groups // 5, num_draws + 1)))
    edges = np.array([*(bin[0] for bin in bins), num_draws + 1])
    share = np.diff(edges) / (num_draws + 1)
    expected = num_groups * share
    inside = 1 - (1 - BAND) / (len(share) * num_dims)
    low, high = stats.binom.interval(inside, num_groups, share)
    places = edges / (num_draws + 1)
    axes.stairs(high / expected, places, baseline=low / expected, fill=True, color="#e4e4e4", linewidth=0, zorder=0)
    axes.axhline(1, color=QUIET, linewidth=0.8, linestyle="dashed", zorder=1)
    counts = np.stack([np.histogram(of, edges)[0] for of in ranks.T])
    worst = int((np.square(counts - expected) / expected).sum(1).argmax())
    for dim, of in enumerate(counts):
        colour, width, alpha, order = (ORANGE, 1.6, 1.0, 3) if dim == worst else (BLUE, 0.8, 0.5, 2)
        axes.stairs(of / expected, places, baseline=None, color=colour, linewidth=width, alpha=alpha, zorder=order)
    axes.set(xlim=(0, 1), ylim=(0, None))
