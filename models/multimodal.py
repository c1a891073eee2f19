"""The multimodal story, which CLIP is a limit of: one content, seen through several modalities."""

from collections.abc import Mapping

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.conjugate import is_flat
from pyro_simvae.distributions import Flat
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood
from pyro_simvae.modalities import Modalities, present, without_missing


class Multimodal(PyroModule):
    """p(x, z, c) = Π_i p(c_i) Π_m p(z_im | c_i) p_m(x_im | z_im), for N groups of M modalities.

        content   c_i  ~ Normal(0, g² I), or flat     what the modalities share       (N, 1, D)
        latent    z_im ~ Normal(c_i, s² I)            content plus style              (N, M, D)
        view      x_im ~ likelihood_m(z_im)           sites "x_image", "x_text", ...  (N, 1, *event_m)

    A missing modality is marginalised: its z and x integrate to one, so both drop out of the group, and neither is
    ever drawn from or filled in.

    Args:
        likelihood: {modality: p_m(x | z)}, two or more; their order is that of the latents.
        latent_dim: D.
        content_scale: g, in (0, inf]. Infinite is flat content: improper, so every group needs two views.
        style_scale: s, finite, > 0.

    Raises:
        InputError: a scale that is not positive; fewer than two modalities.

    Source: Bizeul, Schölkopf and Allen 2024 (arXiv:2402.01399), with modalities for views; Wu and Goodman 2018
        (arXiv:1802.05335) for missing ones.
    """

    def __init__(
        self,
        likelihood: Mapping[str, Likelihood] | Likelihood,
        latent_dim: int,
        content_scale: float = 1.0,
        style_scale: float = 0.4,
    ) -> None:
        super().__init__()
        if isinstance(likelihood, Likelihood) or len(likelihood) < 2:
            raise InputError(
                "the multimodal story needs two or more modalities, each with its likelihood: "
                "use data that has them, such as --data paired_digits"
            )
        self.likelihood = nn.ModuleDict(likelihood)
        self.modalities = tuple(likelihood)
        self.content_scale = positive("content_scale", content_scale)
        self.style_scale: Tensor
        self.register_buffer("style_scale", torch.tensor(positive("style_scale", style_scale, finite=True)))
        self.latent_dim = latent_dim

    def content(self) -> dist.TorchDistribution:
        if is_flat(self.content_scale):
            return Flat(self.latent_dim)
        origin = self.style_scale.new_zeros(self.latent_dim)
        return dist.Normal(origin, self.content_scale, validate_args=False).to_event(1)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return dist.Normal(content, self.style_scale, validate_args=False).to_event(1)

    def forward(
        self, x: Modalities | None = None, num_groups: int = 1, num_views: int | None = None
    ) -> dict[str, Tensor]:
        """x: views by modality; or None to draw the first `num_views` modalities (all) of `num_groups` groups."""
        num_groups, num_views = plate_sizes(x, num_groups, len(self.modalities) if num_views is None else num_views)
        self._check(x, num_views)
        there = None if x is None else present(x)
        views = {}
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content())
            with pyro.plate("views", num_views, dim=-1), without_missing(there):
                z = pyro.sample("z", self.latent(content))
            for m, name in enumerate(self.modalities[:num_views]):
                rows = None if x is None else x.rows(name)
                obs = None if x is None else x.views[name].unsqueeze(1)
                with without_missing(None if rows is None else rows.unsqueeze(1)):
                    view = self.likelihood[name](z[..., m : m + 1, :], rows)
                    views[name] = pyro.sample(f"x_{name}", view, obs=obs)
        return views

    def _check(self, x: Modalities | None, num_views: int) -> None:
        if x is not None:
            x.check_names(self.modalities)
        if num_views > len(self.modalities):
            raise InputError(
                f"{num_views} views a group are asked for, and the story has the modalities "
                f"{', '.join(self.modalities)}: set num_views to {len(self.modalities)} or fewer"
            )
        there = None if x is None else present(x)
        fewest = num_views if there is None else int(there.sum(1).min())
        if is_flat(self.content_scale) and fewest < 2:
            raise InputError(
                "flat content leaves the latent of a group's only view without a prior (improper): "
                "give a finite content_scale, or two or more modalities to each group"
            )
