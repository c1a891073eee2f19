"""What figures of several panels share: their grid, their headline, and how a view is told from another."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_simvae.figures.canvas import BLUE, GREEN, INK, ORANGE, PURPLE, blank

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
LINES = ("solid", "dashed", "dotted")


def panels(count: int, most_columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels of `width` by `height` inches, row by row, `most_columns` in a row at most."""
    num_columns = min(count, most_columns)
    num_rows = -(-count // num_columns)
    fig = blank(num_columns * width, num_rows * height + 0.5)
    grid = fig.add_gridspec(num_rows, num_columns)
    return fig, [fig.add_subplot(grid[index // num_columns, index % num_columns]) for index in range(count)]


def headline(fig: Figure, text: str) -> None:
    """What the panels show, above them all; a figure that is too narrow for it is widened."""
    width, height = fig.get_size_inches()
    fig.set_size_inches(max(width, title_width(text)), height)
    fig.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)


def title_width(text: str) -> float:
    """Inches that a title of the figures' size takes, at least."""
    return 0.3 + 0.085 * max(map(len, text.splitlines()), default=0)


def view_look(view: int) -> tuple[str, str]:
    """Colour and line style of a view; twelve differ."""
    return COLOURS[view % len(COLOURS)], LINES[view // len(COLOURS) % len(LINES)]
