"""Images in rows and columns that have names, frames and captions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import INK, blank, column_gap, mosaic, tidy
from pyro_simvae.figures.panels import title_width

Frames = Mapping[tuple[int, int], tuple[str, str]]
"""(row, column) to the colour and the line style of the frame around it."""

WIDTH = 8.0
"""Inches of a grid of many columns."""

COLUMNS = 8
"""Of ranked images."""


def picture_grid(
    images: np.ndarray,
    title: str,
    *,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    labels: tuple[str, str] = ("", ""),
    frames: Frames | None = None,
    captions: Sequence[str] | None = None,
) -> Figure:
    """Images `(R, K, C, H, W)` in [0, 1], each as large as the others.

    Args:
        images: the images.
        title: above the grid.
        row_names, column_names: R and K.
        labels: what the columns are, below the grid, and what the rows are, left of it.
        frames: around single images.
        captions: below the images, row by row; fewer than R K leave the last images without.

    Raises:
        InputError: views that are not images, or names that are not as many.
    """
    # Room below a row for its captions.
    row_gap = round(0.35 * images.shape[-2]) + 1 if captions is not None else None
    fig = blank(1, 1)
    axes = fig.add_subplot()
    rows, columns = draw_pictures(axes, images, frames or {}, row_gap)
    height, width = axes.images[0].get_size()
    inch = float(np.clip(WIDTH / images.shape[1], 0.45, 0.85)) / images.shape[-1]
    across = 0.2 + 0.3 * bool(labels[1]) + 0.08 * max(map(len, row_names or ()), default=0)
    down = 0.5 + 0.25 * bool(labels[0]) + 0.2 * (column_names is not None or captions is not None)
    fig.set_size_inches(across + max(width * inch, title_width(title)), height * inch + down)
    tidy(axes, title, *labels)
    axes.spines[:].set_visible(False)
    for names, places, set_ticks in (
        (row_names, rows, axes.set_yticks),
        (column_names, columns, axes.set_xticks),
    ):
        if names is not None and len(names) != len(places):
            raise InputError(f"{len(names)} names for {len(places)} rows or columns: give one for each")
        set_ticks(places if names is not None else [], names if names is not None else [])
    axes.tick_params(length=0, labelsize=8)
    axes.set_anchor("NW")  # below the title, where that is wider
    bottom = 0.55 * images.shape[-2]
    for index, caption in enumerate(captions or ()):
        row, column = divmod(index, images.shape[1])
        axes.text(columns[column], rows[row] + bottom, caption, ha="center", va="top", fontsize=7.5, color=INK)
    return fig


def draw_pictures(
    axes: Axes, images: np.ndarray, frames: Frames, row_gap: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws images `(R, K, C, H, W)` on axes without ticks. Returns the middles of rows `(R,)` and columns `(K,)`.

    Raises:
        InputError: views that are not images, or none.
    """
    gap = column_gap(images.shape[-1])
    between = gap if row_gap is None else row_gap
    axes.imshow(mosaic(images, np.full(max(len(images) - 1, 0), between)), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    height, width = images.shape[-2:]
    rows = np.arange(len(images)) * (height + between) + (height - 1) / 2
    columns = np.arange(images.shape[1]) * (width + gap) + (width - 1) / 2
    for (row, column), (colour, line) in frames.items():
        corner = columns[column] - width / 2, rows[row] - height / 2
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=colour, linestyle=line, linewidth=2, clip_on=False)
        )
    return rows, columns


def ranked_images(
    images: np.ndarray, values: np.ndarray, name: str, *, count: int = 24, largest: bool = True
) -> Figure:
    """The images of the largest or smallest values, in order, each with its value below: the most uncertain, say.

    Args:
        images: `(M, C, H, W)` in [0, 1].
        values: `(M,)`; an image whose value is not a number is left out.
        name: of the values, with their unit.
        count: images shown, at most.
        largest: whether to begin with the largest.

    Raises:
        InputError: views that are not images, values that are not as many, or none that is a number.
    """
    if values.shape != (len(images),):
        raise InputError(f"values of shape {values.shape} for {len(images)} images: give one for each")
    order = np.argsort(-values if largest else values, kind="stable")
    order = order[~np.isnan(values[order])][:count]
    if len(order) == 0:
        raise InputError(f"{name}: there is no value that is a number, hence nothing to rank")
    num_columns = min(COLUMNS, len(order))
    blanks = np.ones((-len(order) % num_columns, *images.shape[1:]), images.dtype)
    shown = np.concatenate([images[order], blanks])
    number = int((~np.isnan(values)).sum())
    return picture_grid(
        shown.reshape(-1, num_columns, *images.shape[1:]),
        f"{'Largest' if largest else 'Smallest'} {name}, {len(order)} of {number} images",
        captions=[f"{value:.3g}" for value in values[order]],
    )
