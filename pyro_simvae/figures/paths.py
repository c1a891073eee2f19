"""Paths through the latents of a story: traversals of content and of style, and ways from one group to another."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, ORANGE
from pyro_simvae.figures.grids import picture_grid
from pyro_simvae.inspection.decoded import decode, latent_mean


def principal_directions(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which contents, latents or styles `(M, D)` vary most.

    Returns:
        K = min(count, D) orthonormal directions `(K, D)`, largest first, and the standard deviations along them `(K,)`.

    Raises:
        InputError: fewer than two items, or not finite.
    """
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise InputError(f"values of shape {values.shape} have no directions: give two items or more, all finite")
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(values, rowvar=False)))
    return directions.T[::-1][:count], np.sqrt(np.maximum(variances[::-1][:count], 0))


def along(centre: np.ndarray, directions: np.ndarray, scales: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """centre + step · scale · direction for each of K directions and T steps: `(K, T, D)`.

    Args:
        centre: `(D,)`.
        directions: `(K, D)`.
        scales: units of the steps, `(K,)`.
        steps: `(T,)`.
    """
    path: np.ndarray = centre + steps[:, None] * (scales[:, None] * directions)[:, None]
    return path


def content_traversal(
    model: nn.Module, content: np.ndarray, directions: np.ndarray, scales: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """The mean views of contents along directions, without style: `(K, T, *event)`, see `along`.

    Raises:
        InputError: a story without content.
    """
    contents = along(content, directions, scales, steps)
    return decode(model, latent_mean(model, contents), contents)


def latent_traversal(
    model: nn.Module,
    z: np.ndarray,
    directions: np.ndarray,
    scales: np.ndarray,
    steps: np.ndarray,
    content: np.ndarray | None = None,
) -> np.ndarray:
    """The mean views of latents along directions: `(K, T, *event)`, see `along`.

    Of style, if z is `latent_mean(model, content)` and the directions are those in which styles vary.

    Args:
        model: the story.
        z: `(D,)`.
        directions, scales, steps: as in `along`.
        content: `(C,)`, which stays as it is; for stories where a view depends on it besides z.
    """
    return decode(model, along(z, directions, scales, steps), content)


def interpolation(
    model: nn.Module,
    start: np.ndarray,
    end: np.ndarray,
    num_steps: int = 9,
    contents: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """The mean views on straight ways from latents to others; on the sphere the ways become great circles.

    Args:
        model: the story.
        start, end: `(G, D)`.
        num_steps: T, ends included.
        contents: those at the ends, `(G, C)` each; for stories where a view depends on it besides z.

    Returns:
        `(G, T, *event)`.
    """
    share = np.linspace(0, 1, num_steps)[:, None]

    def way(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        between: np.ndarray = (1 - share) * start[:, None] + share * end[:, None]
        return between

    return decode(model, way(start, end), None if contents is None else way(*contents))


def traversal_figure(
    images: np.ndarray, steps: np.ndarray, names: Sequence[str], title: str, unit: str = "standard deviations"
) -> Figure:
    """A row a direction, a column a step; where there is a step of 0, it is framed.

    Args:
        images: `(K, T, C, H, W)` in [0, 1].
        steps: `(T,)`.
        names: of the directions, K.
        title: what is traversed.
        unit: of the steps.

    Raises:
        InputError: views that are not images, or names or steps that are not as many.
    """
    centre = [(row, int(column)) for column in np.flatnonzero(steps == 0) for row in range(len(images))]
    return picture_grid(
        images,
        title,
        row_names=names,
        column_names=[f"{step:+.2g}" if step else "0" for step in steps],
        labels=(f"step, {unit} (framed: the start)", ""),
        frames=dict.fromkeys(centre, (BLUE, "solid")),
    )


def interpolation_figure(images: np.ndarray, start_views: np.ndarray, end_views: np.ndarray) -> Figure:
    """A row a way, between the real views at its ends, which are framed.

    Args:
        images: `(G, T, C, H, W)` in [0, 1].
        start_views, end_views: `(G, C, H, W)` in [0, 1].

    Raises:
        InputError: views that are not images, or of other shapes.
    """
    if not start_views.shape == end_views.shape == (len(images), *images.shape[2:]):
        raise InputError(
            f"views at the ends are {start_views.shape} and {end_views.shape}, the ways between them {images.shape}: "
            "give a view for each end"
        )
    num_steps = images.shape[1]
    grid = np.concatenate([start_views[:, None], images, end_views[:, None]], axis=1)
    ends = [(row, column) for row in range(len(images)) for column in (0, num_steps + 1)]
    return picture_grid(
        grid,
        "From one group's latent to another's (real views framed)",
        column_names=["view", *(f"{share:.0%}" for share in np.linspace(0, 1, num_steps)), "view"],
        labels=("share of the way", ""),
        frames=dict.fromkeys(ends, (ORANGE, "solid")),
    )
