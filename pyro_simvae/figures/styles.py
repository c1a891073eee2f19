"""Styles apart from content: what else a view could look like, and the content of one group in the style of others."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, ORANGE
from pyro_simvae.figures.grids import Frames, picture_grid
from pyro_simvae.inspection.decoded import decode, draw_given_content, latent_mean


def style_of(model: nn.Module, z: np.ndarray, content: np.ndarray) -> np.ndarray:
    """z - E[z | content]: what a view adds to its content, private dimensions included.

    Args:
        model: a story with content.
        z: `(N, J, D)`.
        content: `(N, C)`.

    Raises:
        InputError: a story without content.
    """
    return z - latent_mean(model, content)[:, None]


def style_draws(
    model: nn.Module,
    content: np.ndarray,
    num_draws: int,
    seed: int = 0,
    given: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """The mean view of E[z | content], then those of S draws of z from p(z | content): `(N, 1 + S, *event)`.

    Args:
        model: a story with content.
        content: such as a posterior mean, `(N, C)`.
        num_draws: S.
        seed: of the draws.
        given: see `draw_given_content`.

    Raises:
        InputError: a story without content.
    """
    drawn = draw_given_content(model, content, num_draws, seed, given)
    z = np.concatenate([latent_mean(model, content)[:, None], drawn], axis=1)
    return decode(model, z, content[:, None])


def content_swap(model: nn.Module, content: np.ndarray, style: np.ndarray) -> np.ndarray:
    """The mean views of E[z | content a] + style b: `(A, B, *event)`.

    Where a and b are of one group this is the reconstruction of its view.

    Args:
        model: a story with content.
        content: `(A, C)`.
        style: as `style_of` gives it, `(B, D)`.

    Raises:
        InputError: a story without content.
    """
    return decode(model, latent_mean(model, content)[:, None] + style, content[:, None])


def style_draws_figure(x: np.ndarray, images: np.ndarray) -> Figure:
    """A row a group: its views, framed, then its content and draws of style.

    Args:
        x: views `(N, J, C, H, W)` in [0, 1].
        images: of `style_draws`, `(N, 1 + S, C, H, W)` in [0, 1].

    Raises:
        InputError: views that are not images, or groups that are not as many.
    """
    if len(x) != len(images) or x.shape[2:] != images.shape[2:]:
        raise InputError(f"views are {x.shape}, draws of style {images.shape}: give both of the same groups")
    num_views, num_draws = x.shape[1], images.shape[1] - 1
    frames = {(row, column): (ORANGE, "solid") for row in range(len(x)) for column in range(num_views)}
    frames |= {(row, num_views): (BLUE, "solid") for row in range(len(x))}
    return picture_grid(
        np.concatenate([x, images], axis=1),
        "What else could a view look like? Draws of style for the content of each group",
        column_names=[*(f"view {view + 1}" for view in range(num_views)), "content", *[""] * num_draws],
        frames=frames,
        labels=("real views, the content alone, then draws of z from p(z | content)", ""),
    )


def content_swap_figure(images: np.ndarray, content_views: np.ndarray, style_views: np.ndarray) -> Figure:
    """A table of contents by styles, with a real view of each at the margin.

    Args:
        images: of `content_swap`, `(A, B, C, H, W)` in [0, 1].
        content_views: of the groups whose content the rows have, `(A, C, H, W)` in [0, 1].
        style_views: the views whose style the columns have, `(B, C, H, W)` in [0, 1].

    Raises:
        InputError: views that are not images, or not as many as rows and columns.
    """
    rows, columns = images.shape[:2]
    if (len(content_views), len(style_views)) != (rows, columns):
        raise InputError(
            f"{len(content_views)} and {len(style_views)} views at the margins of {rows} contents by {columns} styles: "
            "give one for each"
        )
    corner = np.ones((1, 1, *images.shape[2:]), images.dtype)
    top = np.concatenate([corner, style_views[None]], axis=1)
    grid = np.concatenate([top, np.concatenate([content_views[:, None], images], axis=1)])
    frames: Frames = {(row + 1, 0): (BLUE, "solid") for row in range(rows)} | {
        (0, column + 1): (ORANGE, "solid") for column in range(columns)
    }
    return picture_grid(
        grid,
        "Contents (blue) in the styles of others (orange)",
        labels=("style of", "content of"),
        frames=frames,
    )
