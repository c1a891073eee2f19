"""The figures of a run, each a function from arrays to a matplotlib Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, StrMethodFormatter

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    PALETTE,
    QUIET,
    blank,
    column_gap,
    mosaic,
    save,
    tidy,
)
from pyro_simvae.figures.curves import ledger
from pyro_simvae.figures.planes import principal_plane

__all__ = ["image_grid", "latent_scatter", "ledger", "reconstructions", "save", "style_scales"]

MOST_POINTS = 5000
MOST_CLASSES = 20


def reconstructions(x: np.ndarray, mean: np.ndarray) -> Figure:
    """Every view above its reconstruction: a column a group, a pair of rows a view.

    Args:
        x: views `(N, J, C, H, W)` in [0, 1].
        mean: of p(x | z), likewise.

    Raises:
        InputError: Shapes differ, or the views are vectors.
    """
    if x.shape != mean.shape:
        raise InputError(f"views are {x.shape}, reconstructions {mean.shape}: give one for each view")
    if x.ndim != 5:
        raise InputError(f"views of shape {tuple(x.shape[2:])} are not images: a vector has no picture")
    num_views = x.shape[1]
    rows = np.stack([x, mean], axis=2).reshape(len(x), 2 * num_views, *x.shape[2:]).swapaxes(0, 1)
    labels = [
        label
        for view in range(num_views)
        for label in (f"view {view + 1}" if num_views > 1 else "view", "reconstruction")
    ]
    gap = column_gap(x.shape[-1])
    # A pair sits close together, pairs apart.
    gaps = np.array([gap if row % 2 == 0 else 4 * gap for row in range(2 * num_views - 1)])
    return _pictures(rows, gaps, "Views and their reconstructions", labels)


def image_grid(images: np.ndarray, title: str, row_labels: Sequence[str] | None = None) -> Figure:
    """Images in rows and columns.

    Args:
        images: `(R, K, C, H, W)` in [0, 1].
        title: above the grid.
        row_labels: R names, left of the rows.

    Raises:
        InputError: The views are vectors, there are none, or the labels are not as many as the rows.
    """
    if row_labels is not None and len(row_labels) != len(images):
        raise InputError(f"{len(row_labels)} row labels for {len(images)} rows: give one for each row")
    gaps = np.full(max(len(images) - 1, 0), column_gap(images.shape[-1]))
    return _pictures(images, gaps, title, row_labels)


def latent_scatter(z: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None) -> Figure:
    """Latents in the plane of their first two principal components.

    At D = 2 these are the dimensions themselves, at D = 1 a strip. More than 5,000 points are thinned out,
    to the same ones every time.

    Args:
        z: `(M, D)`.
        labels: class indices `(M,)`, or None. More than 20 classes are not coloured: too many to tell apart.
        classes: names of the class indices, or None.

    Raises:
        InputError: There are no points, they are not finite, or labels are not as many.
    """
    if z.ndim != 2 or z.size == 0:
        raise InputError(f"latents of shape {z.shape} cannot be drawn: give (items, dimensions)")
    if not np.isfinite(z).all():
        raise InputError("the latents are not all finite: the fit has diverged, lower its learning rate")
    if labels is not None and len(labels) != len(z):
        raise InputError(f"{len(labels)} labels for {len(z)} latents: give one for each")

    rng = np.random.default_rng(0)
    if z.shape[1] == 1:
        points, names = _strip(z, rng)
    else:
        plane = principal_plane(z)
        points, names = plane.points(z), plane.names
    # In random order either way, so that no class lies on top of the others.
    shown = rng.permutation(len(z))[:MOST_POINTS]
    points = points[shown]
    fig = blank(7.5, 6 if z.shape[1] > 1 else 3)
    axes = fig.add_subplot()
    axes.set_aspect("equal" if z.shape[1] > 1 else "auto", adjustable="datalim")
    tidy(axes, "Latent locs", *names)
    if z.shape[1] == 1:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)

    present = [] if labels is None else np.unique(labels).tolist()
    if labels is None or len(present) > MOST_CLASSES:
        axes.scatter(points[:, 0], points[:, 1], s=7, color=BLUE, alpha=0.5, linewidths=0)
        return fig
    rank = np.searchsorted(present, labels[shown])
    colours = np.array([PALETTE[index % len(PALETTE)] for index in range(len(present))])
    for marker, second in (("o", False), ("^", True)):
        # The second ten classes take the colours again, as triangles.
        chosen = (rank >= len(PALETTE)) == second
        x, y = points[chosen].T
        axes.scatter(x, y, s=9, c=colours[rank[chosen]], marker=marker, alpha=0.75, linewidths=0)
    for index, label in enumerate(present):
        name = classes[label] if classes is not None and label < len(classes) else str(label)
        marker = "o" if index < len(PALETTE) else "^"
        axes.scatter([], [], s=28, color=colours[index], marker=marker, linewidths=0, label=name)
        if z.shape[1] > 1 and (rank == index).any():
            # The name also stands in the middle of its class, for eyes that colours do not serve.
            middle = np.median(points[rank == index], axis=0)
            halo = [withStroke(linewidth=2.5, foreground="white")]
            axes.annotate(name, middle, ha="center", va="center", fontsize=9, color=INK, path_effects=halo)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=1 if len(present) <= len(PALETTE) else 2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.2,
    )
    return fig


def style_scales(scale: np.ndarray) -> Figure:
    """The learned style scale of each latent dimension, largest first: a small scale is content.

    Args:
        scale: `(D,)`, positive.

    Raises:
        InputError: A scale is not positive and finite, or there is none.
    """
    if scale.ndim != 1 or scale.size == 0 or not (np.isfinite(scale) & (scale > 0)).all():
        raise InputError("style scales must be positive and finite, one for each dimension: the fit has diverged")
    order = np.argsort(-scale, kind="stable")
    fig = blank(float(np.clip(2 + 0.28 * len(scale), 5, 12)), 3.6)
    axes = fig.add_subplot()
    tidy(axes, "Style scale of each latent dimension", "latent dimension, sorted", "style scale")
    axes.set_yscale("log")
    low, high = scale.min() / 1.6, scale.max() * 1.25
    axes.bar(range(len(scale)), scale[order] - low, bottom=low, width=0.72, color=BLUE)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.7, len(scale) - 0.3)
    every = -(-len(scale) // 64)
    axes.set_xticks(
        range(0, len(scale), every),
        [str(dim) for dim in order[::every]],
        fontsize=8 if len(scale) <= 32 else 6.5,
    )
    subs = (1, 2, 3, 4, 5, 6, 8) if high / low < 10 else (1, 2, 5) if high / low < 100 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    return fig


def _strip(z: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, str]]:
    """Latents of one dimension `(M, 1)`, spread at random across it, `(M, 2)`, and the names of the two axes."""
    return np.column_stack([z[:, 0], rng.uniform(-1, 1, len(z))]), ("z", "(spread at random)")


def _pictures(images: np.ndarray, row_gaps: np.ndarray, title: str, row_labels: Sequence[str] | None) -> Figure:
    canvas = mosaic(images, row_gaps)
    height, width = canvas.shape[:2]
    side = 8.0 / max(height, width)
    margin = 1.2 if row_labels is not None else 0.0
    fig = blank(max(width * side, 3) + margin, height * side + 0.5)
    axes = fig.add_subplot()
    axes.imshow(canvas, interpolation="nearest")
    tidy(axes, title)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    tops = np.concatenate([[0], np.cumsum(images.shape[3] + row_gaps)])
    centres = tops + images.shape[3] / 2 - 0.5
    axes.set_yticks(centres if row_labels is not None else [], row_labels)
    axes.tick_params(length=0, labelsize=9, colors=QUIET)
    return fig
