"""Latents as the images that they stand for, each where its latent lies."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, PALETTE, QUIET, blank, save, tidy
from pyro_simvae.figures.planes import principal_plane

SIDE = 6.0
"""Width and height of the figure in inches."""

SQUARES = 15
"""Thumbnails in a row of the figure, at most."""

THUMBNAIL = 15.0
"""Longer side of a thumbnail in points."""

MOST_POINTS = 5_000


def latent_thumbnails(
    z: np.ndarray,
    images: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray | None = None,
    uncertainty: tuple[str, np.ndarray] | None = None,
) -> Figure:
    """Latents in the plane of their first two principal components, with thumbnails where there are any.

    The plane is cut into 15 x 15 squares; each shows the image whose latent lies nearest to its middle, in a frame
    of the colour of its class, or of its uncertainty.

    Args:
        z: `(M, D)`, finite.
        images: gives `(n, C, H, W)` in [0, 1], C = 1 or 3, for indices `(n,)` of the items.
        labels: class indices `(M,)`, or None.
        uncertainty: instead of labels, a name and numbers `(M,)`, such as posterior scales or k-hat; grey where one is
            not finite. Colours span the middle 98 % of them.

    Raises:
        InputError: there are no latents, they are not finite, or labels or uncertainties are not as many.
    """
    plane = principal_plane(z)
    points = plane.points(z)
    for given in (labels, None if uncertainty is None else uncertainty[1]):
        if given is not None and given.shape != (len(z),):
            raise InputError(f"labels or uncertainties of shape {given.shape} for {len(z)} latents: give one for each")
    fig = blank(SIDE if uncertainty is None else SIDE + 0.8, SIDE)
    axes = fig.add_subplot()
    tidy(axes, "Latent locs", *plane.names)
    if uncertainty is not None:
        colours = _shades(fig, axes, *uncertainty)
    else:
        colours = np.full(len(z), BLUE) if labels is None else np.array(PALETTE)[labels % len(PALETTE)]
    shown = np.random.default_rng(0).permutation(len(z))[:MOST_POINTS]
    axes.scatter(points[shown, 0], points[shown, 1], s=5, c=colours[shown], alpha=0.4, linewidths=0)
    axes.set(xlim=_limits(points[:, 0]), ylim=_limits(points[:, 1]))
    chosen = _nearest_to_middles(points)
    for index, image in zip(chosen, images(chosen), strict=True):
        pixels = np.clip(image.transpose(1, 2, 0), 0, 1).repeat(3 // len(image), axis=2)
        picture = OffsetImage(pixels, zoom=THUMBNAIL / max(pixels.shape[:2]), interpolation="nearest")
        framed = labels is not None or uncertainty is not None
        frame = {"edgecolor": colours[index] if framed else "none", "linewidth": 1.6 if uncertainty is None else 2.2}
        axes.add_artist(AnnotationBbox(picture, points[index], pad=0, bboxprops=frame))
    return fig


def draw_run(folder: Path) -> None:
    """Draws a fitted run's validation items into its figures/thumbnails.png; nothing where they are not images.

    Raises:
        InputError: the folder is no run, or its weights are those of another.
    """
    from pyro_simvae.evaluation.encoders import LatentLoc
    from pyro_simvae.evaluation.representations import represent
    from pyro_simvae.fitted import open_run

    experiment = open_run(folder).experiment
    valid, plain = experiment.splits.valid, experiment.views.plain
    shape: Any = valid.event_shape  # of paired data, {modality: that of one view}
    if isinstance(shape, Mapping) or len(shape) != 3:
        return
    z = represent(LatentLoc(experiment.guide), valid, plain)
    labels = None if valid.labels is None else valid.labels.numpy()
    fig = latent_thumbnails(z, lambda index: plain(valid.images(torch.from_numpy(index))).numpy(), labels)
    save(fig, folder / "figures" / "thumbnails.png")


def _shades(fig: Figure, axes: Axes, name: str, values: np.ndarray) -> np.ndarray:
    """A colour for each value, `(M, 4)`, with the bar that explains them."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.01, 0.99]) if len(finite) else (0.0, 1.0)
    shades = ScalarMappable(Normalize(low, high), "viridis")
    bar = fig.colorbar(shades, ax=axes, shrink=0.6, extend="both")
    bar.set_label(name, fontsize=9, color=QUIET)
    bar.ax.tick_params(labelsize=8, colors=QUIET)
    colours: np.ndarray = shades.to_rgba(np.nan_to_num(values))
    colours[~np.isfinite(values)] = to_rgba(QUIET)
    return colours


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _nearest_to_middles(points: np.ndarray) -> np.ndarray:
    """Indices of one point in each square that has any: `(n,)`, in order."""
    low = points.min(axis=0)
    size = np.maximum(np.ptp(points, axis=0), np.finfo(np.float64).tiny) / SQUARES
    at = (points - low) / size
    square = np.clip(np.floor(at), 0, SQUARES - 1)
    distance = np.square(at - square - 0.5).sum(axis=1)
    order = np.lexsort((distance, square[:, 1], square[:, 0]))
    first = np.unique(square[order], axis=0, return_index=True)[1]
    return np.sort(order[first])
