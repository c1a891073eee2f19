"""Latents as the images that they stand for, each where its latent lies."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from pyro_simvae.errors import InputError
from pyro_simvae.inspection.canvas import BLUE, PALETTE, blank, save, tidy

SIDE = 6.0
"""Width and height of the figure in inches."""

SQUARES = 15
"""Thumbnails in a row of the figure, at most."""

THUMBNAIL = 15.0
"""Longer side of a thumbnail in points."""

MOST_POINTS = 5_000


def latent_thumbnails(
    z: np.ndarray, images: Callable[[np.ndarray], np.ndarray], labels: np.ndarray | None = None
) -> Figure:
    """Latents in the plane of their first two principal components, with thumbnails where there are any.

    The plane is cut into 15 x 15 squares; each shows the image whose latent lies nearest to its middle, in a frame
    of the colour of its class.

    Args:
        z: `(M, D)`, finite.
        images: gives `(n, C, H, W)` in [0, 1], C = 1 or 3, for indices `(n,)` of the items.
        labels: class indices `(M,)`, or None.

    Raises:
        InputError: there are no latents, or they are not finite.
    """
    if z.ndim != 2 or z.size == 0 or not np.isfinite(z).all():
        raise InputError(f"latents of shape {z.shape} cannot be drawn: give (items, dimensions), all finite")
    points = _plane(z)
    colours = np.full(len(z), BLUE) if labels is None else np.array(PALETTE)[labels % len(PALETTE)]
    fig = blank(SIDE, SIDE)
    axes = fig.add_subplot()
    tidy(axes, "Latent locs of validation items", "principal component 1", "principal component 2")
    shown = np.random.default_rng(0).permutation(len(z))[:MOST_POINTS]
    axes.scatter(points[shown, 0], points[shown, 1], s=5, c=colours[shown], alpha=0.4, linewidths=0)
    axes.set(xlim=_limits(points[:, 0]), ylim=_limits(points[:, 1]))
    chosen = _nearest_to_middles(points)
    for index, image in zip(chosen, images(chosen), strict=True):
        pixels = np.clip(image.transpose(1, 2, 0), 0, 1).repeat(3 // len(image), axis=2)
        picture = OffsetImage(pixels, zoom=THUMBNAIL / max(pixels.shape[:2]), interpolation="nearest")
        frame = {"edgecolor": "none" if labels is None else colours[index], "linewidth": 1.6}
        axes.add_artist(AnnotationBbox(picture, points[index], pad=0, bboxprops=frame))
    return fig


def draw_run(folder: Path) -> None:
    """Draws a fitted run's validation items into its figures/thumbnails.png; nothing where they are not images.

    Raises:
        InputError: the folder is no run, or its weights are those of another.
    """
    from safetensors.torch import load_file

    from pyro_simvae import experiment as exp
    from pyro_simvae.evaluation.encoders import LatentLoc
    from pyro_simvae.evaluation.representations import represent
    from pyro_simvae.inference.svi import load_weights

    experiment = exp.build(exp.read_run(folder))
    valid, plain = experiment.splits.valid, experiment.views.plain
    shape: Any = valid.event_shape  # of paired data, {modality: that of one view}
    if isinstance(shape, Mapping) or len(shape) != 3:
        return
    path = folder / "weights.safetensors"
    load_weights(experiment.pair, load_file(path), path)
    z = represent(LatentLoc(experiment.guide), valid, plain)
    labels = None if valid.labels is None else valid.labels.numpy()
    fig = latent_thumbnails(z, lambda index: plain(valid.images(torch.from_numpy(index))).numpy(), labels)
    save(fig, folder / "figures" / "thumbnails.png")


def _plane(z: np.ndarray) -> np.ndarray:
    """`(M, 2)`; the second coordinate is zero at D = 1."""
    centred = (z - z.mean(axis=0)).astype(np.float64)
    # Not scikit-learn's PCA, which divides by the variance: a collapsed latent has none.
    _, directions = np.linalg.eigh(centred.T @ centred)
    points = centred @ directions[:, ::-1][:, :2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


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
