"""All figures of an inspection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor, nn

from pyro_simvae.figures.calibration import coverage_curves, rank_histograms
from pyro_simvae.figures.canvas import save
from pyro_simvae.figures.checks import check_histograms
from pyro_simvae.figures.densities import latent_densities
from pyro_simvae.figures.ellipses import moments_of_draws, posterior_ellipses
from pyro_simvae.figures.grids import ranked_images
from pyro_simvae.figures.paths import (
    content_traversal,
    interpolation,
    interpolation_figure,
    latent_traversal,
    principal_directions,
    traversal_figure,
)
from pyro_simvae.figures.planes import principal_plane
from pyro_simvae.figures.styles import content_swap, content_swap_figure, style_draws, style_draws_figure, style_of
from pyro_simvae.figures.thumbnails import latent_thumbnails
from pyro_simvae.fitted import Run
from pyro_simvae.inspection.decoded import latent_mean
from pyro_simvae.inspection.diagnosis import Diagnosis, spaced
from pyro_simvae.inspection.groups import Groups
from pyro_simvae.inspection.tree import readable
from pyro_simvae.local_params import local_params

SHOWN = 6
"""Groups, directions and pairs that a figure shows."""

STEPS = np.linspace(-2, 2, 9)
"""Of a traversal, in standard deviations."""

ROUNDING = 1e-5
"""Scales and the like that are not told from zero."""

RANKED = {
    "most_uncertain": ("posterior_scale", "posterior scale", True),
    "worst_k_hat": ("k_hat", "k-hat", True),
    "worst_fitted": ("elbo", "ELBO, nats a group", False),
}
"""Figures of ranked images: the column of the table, what it is, and whether the largest come first."""


def draw_inspection(
    run: Run, groups: Groups, tree: xr.DataTree, rows: pd.DataFrame, diagnosis: Diagnosis, folder: Path
) -> list[str]:
    """Draws into `folder` what makes sense for a run.

    Args:
        run: the run.
        groups: the first of those that were inspected.
        tree: of `posterior_tree`; its first groups are these.
        rows: the table of all groups, likewise.
        diagnosis: of the pair.
        folder: made where there is none; figures of the same names are drawn anew.

    Returns:
        What was left out, with the reason, a line each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(groups.x, Tensor):
        return ["figures: the views are of several kinds"]
    parts = readable(run.experiment.pair)
    figures = _Figures(parts.model, groups, tree, rows.iloc[: len(groups.x)])
    left_out = []
    with local_params(parts.model), torch.no_grad():
        for name, figure in figures.of_posterior():
            save(figure, folder / f"{name}.png")
        if not figures.are_images:
            left_out.append("decoded figures: the views are vectors, not images")
        elif not (parts.decodes and "log_likelihood" in tree.children):
            left_out.append("decoded figures: the decoder was not fitted, or was to be left alone")
        else:
            for name, figure in figures.of_decoder():
                save(figure, folder / f"{name}.png")
    if diagnosis.calibration is not None:
        save(rank_histograms(diagnosis.calibration), folder / "calibration_ranks.png")
        save(coverage_curves(diagnosis.calibration), folder / "calibration_coverage.png")
    if diagnosis.checks is not None:
        save(check_histograms(diagnosis.checks), folder / "predictive_checks.png")
    return left_out


class _Figures:
    """The arrays that figures are made of."""

    def __init__(self, model: nn.Module, groups: Groups, tree: xr.DataTree, rows: pd.DataFrame) -> None:
        assert isinstance(groups.x, Tensor)
        posterior: Any = tree["posterior"].isel(group=slice(len(groups.x)))
        self.model = model
        self.x = groups.x.numpy(force=True)
        self.rows = rows
        self.z = posterior["z"].values[0]  # (S, N, J, D)
        self.content = posterior["content"].values[0] if "content" in posterior else None  # (S, N, C)
        prior: Any = tree["prior"] if "prior" in tree.children else None
        self.prior = None if prior is None else prior["z"].values
        # Sites that all groups share, such as style scales, are set to their posterior means.
        shared = {str(name): v for name, v in posterior.data_vars.items() if "group" not in v.dims}
        self.given = {name: v.mean(("chain", "draw")).values for name, v in shared.items()}
        self.at = spaced(len(self.x), SHOWN)

    @property
    def are_images(self) -> bool:
        return self.x.ndim == 5 and self.x.shape[2] in (1, 3)

    def of_posterior(self) -> Iterator[tuple[str, Figure]]:
        """Those that need no decoder."""
        loc = self.z.mean(0)
        images = self.x[self.at] if self.are_images else None
        names = [f"item {name}" for name in self.rows.index[self.at]]
        centres = None if self.content is None else latent_mean(self.model, self.content[:, self.at])
        others = np.delete(loc, self.at, 0).reshape(-1, loc.shape[-1])
        plane = principal_plane(loc.reshape(-1, loc.shape[-1]))
        content = None if centres is None else moments_of_draws(centres)
        yield (
            "ellipses",
            posterior_ellipses(moments_of_draws(self.z[:, self.at]), content, others, plane, images, names),
        )
        first = self.at[0]
        flat = loc.reshape(-1, loc.shape[-1])
        prior, prior_name = (flat, "all posteriors") if self.prior is None else (self.prior, "prior")
        yield (
            "densities",
            latent_densities(
                self.z[:, first],
                prior.reshape(-1, loc.shape[-1]),
                None if centres is None else centres[:, 0],
                of=names[0],
                prior_name=prior_name,
            ),
        )
        if not self.are_images:
            return
        labels = self.rows["label"].to_numpy() if "label" in self.rows else None
        yield "latents", latent_thumbnails(loc[:, 0], lambda index: self.x[index, 0], labels)
        scale = self.rows["posterior_scale"].to_numpy()
        if (scale > ROUNDING).any():
            shades = ("posterior scale", scale)
            yield (
                "latents_uncertainty",
                latent_thumbnails(loc[:, 0], lambda index: self.x[index, 0], uncertainty=shades),
            )
        for name, (column, words, largest) in RANKED.items():
            values = self.rows[column].to_numpy() if column in self.rows else np.array([])
            # The scale of a point is zero but for rounding, and an exact guide has no k-hat.
            if (np.isfinite(values) & (np.abs(values) > ROUNDING)).any():
                yield name, ranked_images(self.x[:, 0], values, words, largest=largest)

    def of_decoder(self) -> Iterator[tuple[str, Figure]]:
        """Those of decoded latents."""
        loc, at = self.z.mean(0), self.at
        if len(at) > 1:
            start, end = np.array(at), np.roll(at, -1)
            images = interpolation(self.model, loc[start, 0], loc[end, 0], contents=self._contents(start, end))
            yield "interpolation", interpolation_figure(images, self.x[start, 0], self.x[end, 0])
        if self.content is None:
            return
        content = self.content.mean(0)
        if len(at) > 1:
            directions, scales = principal_directions(content, SHOWN)
            images = content_traversal(self.model, content.mean(0), directions, scales, STEPS)
            names = [f"direction {k + 1}" for k in range(len(directions))]
            yield "content_traversal", traversal_figure(images, STEPS, names, "Content, along what varies most")
            style = style_of(self.model, loc, content)
            directions, scales = principal_directions(style.reshape(-1, style.shape[-1]), SHOWN)
            z = latent_mean(self.model, content[at[0]])
            images = latent_traversal(self.model, z, directions, scales, STEPS, content[at[0]])
            names = [f"direction {k + 1}" for k in range(len(directions))]
            yield (
                "style_traversal",
                traversal_figure(images, STEPS, names, "Style of one content, along what varies most"),
            )
        drawn = style_draws(self.model, content[at], num_draws=8, given=self.given)
        yield "style_draws", style_draws_figure(self.x[at], drawn)
        styles = style_of(self.model, loc[at], content[at])[:, 0]
        swapped = content_swap(self.model, content[at], styles)
        yield "content_swap", content_swap_figure(swapped, self.x[at, 0], self.x[at, 0])

    def _contents(self, start: np.ndarray, end: np.ndarray) -> Any:
        return None if self.content is None else (self.content.mean(0)[start], self.content.mean(0)[end])
