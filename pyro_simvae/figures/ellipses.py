"""Posteriors as ellipses: what a guide says of the views of a group, and of the content that they share."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.stats import chi2

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import INK, blank, tidy
from pyro_simvae.figures.grids import draw_pictures
from pyro_simvae.figures.panels import headline, view_look
from pyro_simvae.figures.planes import Plane

MOST_POINTS = 5_000
MOST_COLUMNS = 3


class Moments(NamedTuple):
    """Mean and covariance of distributions over latents: all that an ellipse shows of them.

    Attributes:
        loc: `(..., D)`.
        covariance: `(..., D, D)`.
    """

    loc: np.ndarray
    covariance: np.ndarray


def moments_of_draws(draws: np.ndarray) -> Moments:
    """Those of draws `(S, ..., D)`, S >= 2. Of content, give draws of E[z | content] (`decoded.latent_mean`).

    Raises:
        InputError: fewer than two draws.
    """
    if len(draws) < 2:
        raise InputError(f"{len(draws)} draws have no covariance: give 2 or more")
    loc = draws.mean(0, dtype=np.float64)
    deviation = draws - loc
    return Moments(loc, np.einsum("s...d,s...e->...de", deviation, deviation) / (len(draws) - 1))


def moments_of_normal(loc: np.ndarray, scale: np.ndarray) -> Moments:
    """Those of independent Normals, loc and scale `(..., D)`."""
    return Moments(loc, np.square(scale)[..., None] * np.eye(loc.shape[-1]))


def posterior_ellipses(
    z: Moments,
    content: Moments | None,
    others: np.ndarray,
    plane: Plane,
    x: np.ndarray | None = None,
    names: list[str] | None = None,
    level: float = 0.9,
) -> Figure:
    """A panel for each group: an ellipse for each view's q(z | x), one for content, and the locs of other views.

    An ellipse holds the probability `level` if the distribution is Gaussian; of another distribution it is that of
    the Gaussian with the same mean and covariance. All panels show the same part of the plane.

    Args:
        z: of G groups of J views, loc `(G, J, D)`.
        content: of E[z | content], loc `(G, D)`; None where the story has no content.
        others: locs of views of other groups, `(M, D)`.
        plane: where to look.
        x: the groups' views, `(G, J, C, H, W)` in [0, 1], drawn below their panel in the frame of their ellipse's
            colour; None for vectors.
        names: of the groups, G.
        level: in (0, 1).

    Raises:
        InputError: no groups, views or names that are not as many, moments that are not those of latents, a level
            outside (0, 1), or views that are not images.
    """
    _check(z, content, plane, x, names, level)
    num_groups, num_views = z.loc.shape[:2]
    num_columns = min(num_groups, MOST_COLUMNS)
    num_rows = -(-num_groups // num_columns)
    tall = 0.0 if x is None else 0.9
    fig = blank(max(3.6 * num_columns, 5.5), (3.4 + tall) * num_rows + 0.7)
    grid = fig.add_gridspec(num_rows * 2, num_columns, height_ratios=[3.4, max(tall, 1e-3)] * num_rows)
    radius = float(np.sqrt(chi2.ppf(level, 2)))
    cloud = plane.points(others[np.random.default_rng(0).permutation(len(others))[:MOST_POINTS]])
    drawn = list[Axes]()
    for group in range(num_groups):
        row, column = 2 * (group // num_columns), group % num_columns
        axes = fig.add_subplot(grid[row, column])
        drawn.append(axes)
        name = names[group] if names else f"group {group + 1}"
        tidy(axes, name, plane.names[0], plane.names[1] if column == 0 else "")
        axes.scatter(cloud[:, 0], cloud[:, 1], s=4, color="#c8c8c8", alpha=0.6, linewidths=0, zorder=1)
        for view in range(num_views):
            colour, line = view_look(view)
            _add(axes, plane, z.loc[group, view], z.covariance[group, view], radius, colour, line)
        if content is not None:
            _add(axes, plane, content.loc[group], content.covariance[group], radius, INK, "solid")
        if x is not None:
            below = fig.add_subplot(grid[row + 1, column])
            frames = {(0, view): view_look(view) for view in range(num_views)}
            draw_pictures(below, x[group : group + 1], frames)
    _same_limits(drawn, cloud)
    what = "views in colours" + (", content in black" if content is not None else "") + ", other views in grey"
    headline(fig, f"Posterior ellipses of {level:.0%}\n{what}")
    return fig


def _check(
    z: Moments, content: Moments | None, plane: Plane, x: np.ndarray | None, names: list[str] | None, level: float
) -> None:
    latent_dim = len(plane.origin)
    if z.loc.ndim != 3 or z.loc.shape[0] == 0 or z.covariance.shape != (*z.loc.shape, latent_dim):
        raise InputError(
            f"loc {z.loc.shape} and covariance {z.covariance.shape} are no moments of groups of latents of "
            f"{latent_dim} dimensions: give (G, J, D) and (G, J, D, D), one group or more"
        )
    if content is not None and content.covariance.shape != (len(z.loc), latent_dim, latent_dim):
        raise InputError(
            f"the content's covariance has shape {content.covariance.shape}, and the latents {latent_dim} dimensions: "
            "give moments of E[z | content], see decoded.latent_mean"
        )
    for what, given in (("views", x), ("names", names)):
        if given is not None and len(given) != len(z.loc):
            raise InputError(f"{what} of {len(given)} groups for {len(z.loc)} groups: give one for each")
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a probability in (0, 1)")


def _add(
    axes: Axes, plane: Plane, loc: np.ndarray, covariance: np.ndarray, radius: float, colour: str, line: str
) -> None:
    centre = plane.points(loc)
    variances, directions = np.linalg.eigh(plane.covariances(covariance))
    short, long = 2 * radius * np.sqrt(np.maximum(variances, 0))
    angle = float(np.degrees(np.arctan2(directions[1, 1], directions[0, 1])))
    for fill, alpha in ((True, 0.15), (False, 1.0)):
        ellipse = Ellipse(
            (float(centre[0]), float(centre[1])),
            long,
            short,
            angle=angle,
            fill=fill,
            facecolor=colour,
            edgecolor="none" if fill else colour,
            linestyle=line,
            linewidth=1.5,
            alpha=alpha,
            zorder=2 + (not fill),
        )
        axes.add_patch(ellipse)
    axes.plot(*centre, marker="o" if colour != INK else "x", markersize=4, color=colour, zorder=4)


def _same_limits(drawn: list[Axes], cloud: np.ndarray) -> None:
    """Wide enough for every ellipse and nearly all of the cloud, with one scale for both axes."""
    corners = [patch.get_extents().transformed(axes.transData.inverted()) for axes in drawn for patch in axes.patches]
    extents = np.array([[box.min, box.max] for box in corners]).reshape(-1, 2)
    if len(cloud):
        extents = np.concatenate([extents, np.quantile(cloud, [0.005, 0.995], axis=0)])
    low, high = extents.min(axis=0), extents.max(axis=0)
    half = max(0.55 * float((high - low).max()), 1e-3)
    (left, right), (bottom, top) = np.stack([(low + high) / 2 - half, (low + high) / 2 + half], axis=1)
    for axes in drawn:
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
