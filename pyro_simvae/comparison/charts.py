"""The charts of a comparison: content against style, and training curves."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, FAINT, INK, ORANGE, PALETTE, QUIET, blank, tidy
from pyro_simvae.figures.curves import curve, limits

MARKERS = "osD^vP*X"
COLUMNS = 4
"""Panels in a row of the training curves."""

Rows = list[dict[str, float]]


def content_style(points: Mapping[str, tuple[np.ndarray, np.ndarray]], x: str, y: str) -> Figure:
    """Content against style: for each method a mark at the mean, and a small dot for each seed.

    Args:
        points: by title of the method, content and style scores, each `(S,)` for S seeds in the same order.
        x, y: what the axes show.

    Raises:
        InputError: there are no methods.
    """
    if not points:
        raise InputError("no method has both a content and a style score: there is nothing to draw")
    fig = blank(8, 5)
    axes = fig.add_subplot()
    tidy(axes, "Content against style", x, y)
    axes.grid(color=FAINT, linewidth=0.6)
    for index, (title, (content, style)) in enumerate(points.items()):
        colour = PALETTE[index % len(PALETTE)]
        marker = MARKERS[(index // len(PALETTE) * 3 + index) % len(MARKERS)]
        middle = content.mean(), style.mean()
        axes.scatter(content, style, s=9, color=colour, alpha=0.6, linewidths=0)
        axes.plot([c for v in content for c in (middle[0], v)], [s for v in style for s in (middle[1], v)],
                  color=colour, alpha=0.4, linewidth=0.8)  # fmt: skip
        axes.scatter(*middle, s=60, color=colour, marker=marker, edgecolors="white", linewidths=0.8, label=title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK)
    return fig


def training_curves(runs: Mapping[str, Sequence[Rows]]) -> Figure:
    """A panel a method, its seeds over each other: the ELBO in nats a group, or the loss of a limit, over the epochs.

    Args:
        runs: by title of the method, the rows of each seed's metrics.csv.

    Raises:
        InputError: there are no methods.
    """
    if not runs:
        raise InputError("no method has been fitted for an epoch: there are no curves to draw")
    columns = min(COLUMNS, len(runs))
    lines = math.ceil(len(runs) / columns)
    fig = blank(2.9 * columns, 2.3 * lines)
    panels = fig.subplots(lines, columns, squeeze=False).flat
    for axes, (title, seeds) in zip(panels, runs.items(), strict=False):
        name = "limit/loss" if any("train/limit/loss" in row for rows in seeds for row in rows) else "elbo"
        tidy(axes, title, "epoch", "loss" if name == "limit/loss" else "ELBO")
        drawn = []
        for split, colour in (("train", BLUE), ("valid", ORANGE)):
            for index, rows in enumerate(seeds):
                epochs, values = curve(rows, [f"{split}/{name}"])
                drawn.append(values)
                axes.plot(epochs, values, color=colour, linewidth=1.1, alpha=0.8, label=split if index == 0 else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
        if span := limits(drawn):
            axes.set_ylim(*span)
    handles, names = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=8, labelcolor=QUIET)
    for axes in list(fig.axes)[len(runs) :]:
        axes.set_axis_off()
    return fig


def read_metrics(folder: Path) -> Rows:
    """A run's metrics.csv, a row an epoch; none where it has not been written."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
