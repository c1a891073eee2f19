"""The one style of every figure, and how a figure becomes a file."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import atomic

# Okabe and Ito's colours, which colour-blind readers tell apart; the greys carry what is not data.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#e4e4e4"

PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colours for classes (M. Petroff, Accessible Color Sequences for Data Visualization, 2021)."""

DPI = 150


def blank(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches that knows no pyplot, hence no global state."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def tidy(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Gives axes their title and labels, and takes away every line that is not data."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel(x, fontsize=9, color=QUIET)
    axes.set_ylabel(y, fontsize=9, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=3, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=QUIET, linewidth=0.6)
    axes.set_axisbelow(True)


def mosaic(images: np.ndarray, row_gaps: np.ndarray) -> np.ndarray:
    """Images side by side on white.

    Args:
        images: `(R, K, C, H, W)` in [0, 1], C = 1 or 3.
        row_gaps: pixels of white above each row but the first, `(R - 1,)`.

    Returns:
        `(height, width, 3)` in [0, 1].

    Raises:
        InputError: The views are not images, or there are none.
    """
    if images.ndim != 5 or images.shape[2] not in (1, 3):
        raise InputError(
            f"views of shape {tuple(images.shape[2:])} are not images: only (C, H, W) with 1 or 3 channels can be drawn"
        )
    num_rows, num_columns, _, height, width = images.shape
    if num_rows == 0 or num_columns == 0:
        raise InputError("there are no images to draw: give at least one row and one column")
    gap = column_gap(width)
    tops = np.concatenate([[0], np.cumsum(height + row_gaps)]).astype(int)
    canvas = np.ones((tops[-1] + height, num_columns * (width + gap) - gap, 3), dtype=np.float32)
    pixels = np.clip(np.nan_to_num(images, nan=0.0), 0, 1).transpose(0, 1, 3, 4, 2)
    for row, top in enumerate(tops):
        for column in range(num_columns):
            left = column * (width + gap)
            canvas[top : top + height, left : left + width] = pixels[row, column]
    return canvas


def column_gap(width: int) -> int:
    """Pixels of white between images of `width` pixels."""
    return max(1, round(width / 14))


def save(fig: Figure, path: Path) -> None:
    """Writes the figure as PNG; `path` holds the old figure or the new one, never a part."""
    with atomic(path) as temporary:
        fig.savefig(temporary, format="png")
