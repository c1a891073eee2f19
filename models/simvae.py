"""The SimVAE story: the views of a group share their content, and each adds a style of its own."""

from typing import Any, Literal

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule, PyroParam
from torch import Tensor
from torch.distributions import constraints

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.conjugate import is_flat
from pyro_simvae.distributions import Flat, Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood


class SimVAE(PyroModule):
    """p(x, z, c) = Π_i p(c_i) Π_j p(z_ij | c_i) p(x_ij | z_ij), for N groups of J views.

        content   c_i  ~ Normal(0, g² I), or flat     what the views share            (N, 1, D)
        latent    z_ij ~ Normal(c_i, s² I)            content plus style              (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                             (N, J, *event)

    With a style scale learned for each dimension, the fitted story tells content dimensions (small s)
    from style dimensions (large s).

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        content_scale: g, in (0, inf]. Infinite is flat content: improper, so it needs J >= 2 and has no prior draws.
        style_scale: s > 0; the initial value where it is learned.
        learn_style_scale: "no", one "shared" scale, or one for each "dimension".

    Raises:
        InputError: a scale that is not positive; flat content with a learned style scale (the objective
            grows without bound as s does) or with one view a group.

    Source: Bizeul, Schölkopf and Allen 2024 (arXiv:2402.01399).
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        content_scale: float = 1.0,
        style_scale: float = 0.4,
        learn_style_scale: Literal["no", "shared", "dimension"] = "no",
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.content_scale = positive("content_scale", content_scale)
        scale = torch.tensor(positive("style_scale", style_scale, finite=True))
        if learn_style_scale == "no":
            self.register_buffer("style_scale", scale)
        elif is_flat(self.content_scale):
            raise InputError(
                "a learned style_scale under flat content grows without bound: "
                "give a finite content_scale, or fix the style_scale"
            )
        else:
            size = (latent_dim,) if learn_style_scale == "dimension" else ()
            self.style_scale: Any = PyroParam(scale.expand(size).clone(), constraints.positive)

    def content(self, num_views: int) -> dist.TorchDistribution:
        if not is_flat(self.content_scale):
            origin = self.style_scale.new_zeros(self.latent_dim)
            return Gaussian(origin, self.content_scale)
        if num_views == 1:
            raise InputError(
                "flat content leaves the latent of a single view without a prior (improper): "
                "give a finite content_scale, or two or more views a group"
            )
        return Flat(self.latent_dim)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return Gaussian(content, self.style_scale)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content(num_views))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                return pyro.sample("x", self.likelihood(z), obs=x)
