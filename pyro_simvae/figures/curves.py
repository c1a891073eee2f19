"""The ELBO and its terms over the epochs of a fit."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, QUIET, blank, tidy

Curve = tuple[np.ndarray, np.ndarray]
"""Epochs and values, each `(E,)`; epochs without a finite value are left out."""


def ledger(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """Three panels over the epochs, in nats a group: ELBO, reconstruction, and the latent terms on train.

    Args:
        metrics: a row an epoch: "epoch", "train/elbo", "valid/elbo", and per site "train/log_p/SITE",
            "train/log_q/SITE", likewise "valid/...". What is missing or not finite is not drawn.

    Raises:
        InputError: There are no rows.
    """
    if not metrics:
        raise InputError("there are no epochs to draw: fit for at least one")
    latent = _sites(metrics, "log_q")
    observed = [site for site in _sites(metrics, "log_p") if site not in latent]
    fig = blank(11, 4)
    elbo, reconstruction, terms = fig.subplots(1, 3)

    both = [("train", BLUE), ("valid", ORANGE)]
    _panel(
        elbo,
        "ELBO",
        [(split, colour, "-", curve(metrics, [f"{split}/elbo"])) for split, colour in both],
        "nats a group",
    )
    _panel(
        reconstruction,
        "Reconstruction, log p(x | z)",
        [
            (split, colour, "-", curve(metrics, [f"{split}/log_p/{site}" for site in observed]))
            for split, colour in both
        ],
    )
    _panel(
        terms,
        "Latent terms, train",
        [
            (f"{term.replace('_', ' ')}({site})", colour, style, curve(metrics, [f"train/{term}/{site}"]))
            for site, colour in zip(latent, _cycle(len(latent)), strict=True)
            for term, style in (("log_p", "-"), ("log_q", "--"))
        ],
    )
    return fig


def curve(metrics: Sequence[Mapping[str, float]], keys: Sequence[str]) -> Curve:
    """The sum of `keys` in each epoch that has them all, finite."""
    rows = [
        (row["epoch"], sum(row[key] for key in keys)) for row in metrics if keys and all(key in row for key in keys)
    ]
    points = np.array([row for row in rows if np.isfinite(row[1])], dtype=np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def limits(curves: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The range of values worth seeing.

    The later three quarters of the epochs set the scale; earlier ones belong to the range as long as it stays
    within four times that, since the first can be orders of magnitude away from all that follow.

    Args:
        curves: each `(E,)`, in order of epochs.

    Returns:
        (low, high), or None without values.
    """
    curves = [values for values in curves if len(values)]
    if not curves:
        return None
    longest = max(len(values) for values in curves)

    def since(start: int) -> np.ndarray:
        # The last value always stays.
        return np.concatenate([values[min(start, len(values) - 1) :] for values in curves])

    late = longest // 4
    scale = float(np.ptp(since(late)))
    start = next(start for start in range(late + 1) if start == late or np.ptp(since(start)) <= 4 * scale)
    low, high = float(since(start).min()), float(since(start).max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def _panel(axes: Axes, title: str, lines: Sequence[tuple[str, str, str, Curve]], y: str = "") -> None:
    tidy(axes, title, "epoch", y)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    lines = [line for line in lines if len(line[3][0])]
    span = limits([values for *_, (_, values) in lines])
    if span is None:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=QUIET, fontsize=9)
        axes.set(xticks=[], yticks=[])
        return
    for label, colour, style, (epochs, values) in lines:
        # A single epoch is a point, hollow where its line would be dashed.
        marker, fill = ("o" if len(epochs) == 1 else ""), ("white" if style == "--" else colour)
        axes.plot(
            epochs,
            values,
            style,
            color=colour,
            linewidth=1.6,
            marker=marker,
            markerfacecolor=fill,
            label=label,
        )
    axes.set_ylim(*span)
    first, last = axes.get_xlim()
    if last - first < 1:
        axes.set_xlim((first + last - 1) / 2, (first + last + 1) / 2)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.16),
        ncols=2,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1.8,
    )


def _sites(metrics: Sequence[Mapping[str, float]], term: str) -> list[str]:
    prefix = f"train/{term}/"
    keys = dict.fromkeys(key for row in metrics for key in row)
    return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]


def _cycle(count: int) -> list[str]:
    colours = [BLUE, GREEN, PURPLE, ORANGE]
    return [colours[index % len(colours)] for index in range(count)]
