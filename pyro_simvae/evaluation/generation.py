"""What a generative story can do with test views: bound their density, reconstruct them, and draw new ones."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torchmetrics import MeanSquaredError
from torchmetrics.image import StructuralSimilarityIndexMeasure
from torchmetrics.image.fid import FrechetInceptionDistance

from pyro_simvae.conjugate import is_flat
from pyro_simvae.data import Split, Splits, Views
from pyro_simvae.evaluation.bound import (
    MOST_VALUES,
    bound_of,
    observed_of,
    view_at_loc,
)
from pyro_simvae.evaluation.representations import Plain, evaluating
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.generated import decoder_is_trained, draw_prior
from pyro_simvae.limits.own_densities import own_densities

MOST_IMAGES = 10_000
"""Test images, and prior samples, of the Fréchet distance."""

FITTED = 5_000
"""Training images that its principal components are fitted to, evenly spaced."""

COMPONENTS = 64
"""The most principal components."""

VARIANCE = 0.99
"""Share of the training images' variance that they hold, if so many are enough."""

WINDOW = 1.5
"""Scale of the Gaussian window of SSIM in pixels, 11 pixels wide, where the image is as large."""


def generate(
    pair: LedgerELBO, splits: Splits, views: Views, num_views: int, seed: int
) -> tuple[dict[str, float], list[str]]:
    """How well a pair's story accounts for the test split.

    Args:
        pair: on the device of the splits.
        splits: the data.
        views: what the pair was fitted to.
        num_views: J, of the groups whose density is bounded.
        seed: of views and draws.

    Returns:
        The scores: those of `bound_scores` for groups of views of the test items; "mse" and, of images, "ssim" of what
        is reconstructed of the items themselves; of images, "frechet" between the items and as many prior samples.
        And what was left out, with the reason, a line each.
    """
    if isinstance(splits.test.event_shape, Mapping):
        return {}, ["generation: the views are of several kinds"]
    if not decoder_is_trained(pair):
        return {}, ["generation: a limit leaves the decoder untrained"]
    own = own_densities(pair)
    if "index" in own.observes:
        return {}, ["generation: the story knows the training items only"]
    with torch.no_grad(), rng.isolated(seed), evaluating(own):
        parts = [
            bound_of(own, splits.test, views, num_views),
            reconstruction_scores(own, splits.test, views.plain, num_views),
            frechet_score(own.model, splits, views.plain),
        ]
    scores = {name: value for found, _ in parts for name, value in found.items()}
    return scores, [line for _, reasons in parts for line in reasons]


def reconstruction_scores(
    pair: LedgerELBO, split: Split, plain: Plain, num_views: int
) -> tuple[dict[str, float], list[str]]:
    """How near the mean of p(x | z), z at the guide's loc, comes to the items without augmentation.

    Args:
        pair: see `own_densities`.
        split: the items.
        plain: makes views of them.
        num_views: J: every item is given J times, since flat content needs two views.

    Returns:
        {"mse": squared error, mean over pixels; "ssim", in [-1, 1], of images}, and what was left out. The window of
        SSIM is Gaussian, of scale 1.5 and 11 pixels wide, or as wide as a smaller image.
    """
    metrics: dict[str, Any] = {"mse": MeanSquaredError()}
    left_out = []
    if len(split.event_shape) != 3:
        left_out.append("ssim: the views are vectors, not images")
    elif (side := min(split.event_shape[-2:])) < 3:
        left_out.append("ssim: the images are smaller than three pixels")
    else:
        # torchmetrics makes the window int(3.5 scale + 0.5) pixels wide to either side.
        scale = min(WINDOW, (side - 1) // 2 / 3.5)
        metrics["ssim"] = StructuralSimilarityIndexMeasure(sigma=scale, data_range=1.0)
    at_once = max(1, MOST_VALUES // (num_views * math.prod(split.event_shape)))
    for index in torch.arange(len(split)).split(at_once):
        x = plain(split.images(index))
        groups = x.unsqueeze(1).expand(-1, num_views, *split.event_shape)
        mean = view_at_loc(pair, groups, observed_of(pair, split, index, x.device)).mean[:, 0]
        for metric in metrics.values():
            metric.update(mean.float().cpu().contiguous(), x.cpu())
    return {name: float(metric.compute()) for name, metric in metrics.items()}, left_out


def frechet_score(story: nn.Module, splits: Splits, plain: Plain) -> tuple[dict[str, float], list[str]]:
    """Fréchet distance between test images, without augmentation, and as many means of p(x | z), z from the prior.

    Of the features `Components` of the training images: squared distance of the Gaussians that have their means and
    covariances. It is 0 where these agree; the mean image alone, again and again, scores about one a component.

    Returns:
        {"frechet"}, and what was left out.

    Source: Heusel et al. 2017 (arXiv:1706.08500), equation 6, with components in place of Inception's features.
    """
    if len(splits.test.event_shape) != 3:
        return {}, ["frechet: the views are vectors, not images"]
    if is_flat(getattr(story, "content_scale", 1.0)):
        return {}, ["frechet: flat content is improper, there is nothing to draw"]
    chosen = torch.linspace(0, len(splits.train) - 1, min(FITTED, len(splits.train))).long()
    images = torch.cat([plain(splits.train.images(index)).cpu() for index in chosen.split(1024)])
    if (images == images[0]).all():
        return {}, ["frechet: the training images are all the same"]
    distance = FrechetInceptionDistance(Components(images), normalize=True)
    test = torch.linspace(0, len(splits.test) - 1, min(MOST_IMAGES, len(splits.test))).long()
    for index in test.split(max(1, MOST_VALUES // images[0].numel())):
        distance.update(plain(splits.test.images(index)).cpu(), real=True)
        distance.update(torch.from_numpy(draw_prior(story, len(index), 1)["x"]), real=False)
    return {"frechet": float(distance.compute())}, []


class Components(nn.Module):
    """The leading principal components of training images, 64 at most, that hold 99 % of the variance of their pixels.

    Each is divided by its standard deviation, so that a direction counts by its shape, not by its brightness.

    Args:
        images: `(M, *event)`, not all the same.

    Attributes:
        num_features: how many.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        pixels = images.flatten(1).numpy()
        pca = PCA(min(COMPONENTS, *pixels.shape), random_state=0).fit(pixels)
        enough = int(np.searchsorted(pca.explained_variance_ratio_.cumsum(), VARIANCE)) + 1
        self.num_features = min(enough, len(pca.components_))
        kept = slice(self.num_features)
        directions = pca.components_[kept] / np.sqrt(pca.explained_variance_[kept, None])
        self.mean, self.directions = torch.from_numpy(pca.mean_).double(), torch.from_numpy(directions.T).double()

    def forward(self, images: Tensor) -> Tensor:
        """images: `(n, *event)`. Returns `(n, num_features)`."""
        return (images.flatten(1).double() - self.mean) @ self.directions
