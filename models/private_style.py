"""The private-style story: the views of a group share some dimensions of their latents, and have the others apart."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood


class PrivateStyle(PyroModule):
    """p(x, z, c) = Π_i p(c_i) Π_j p(z_ij | c_i) p(x_ij | z_ij), with z = [content part, style part] of C + (D - C).

        content   c_i  ~ Normal(0, g² I)                                what the views share       (N, 1, C)
        latent    z_ij ~ Normal([c_i, 0], diag(s², .., s², 1, .., 1))   content part, style part   (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                                          (N, J, *event)

    The first C dimensions are SimVAE's, the others a VAE's. The matched guide is `MeanField`: the content's posterior
    is conjugate, of the content parts alone.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D >= 2.
        content_dim: C, in [1, D); half of D by default.
        content_scale: g > 0.
        style_scale: s > 0, how far a view's content part strays from the content; small, since the style part is there
            for what differs.

    Raises:
        InputError: a scale that is not positive and finite; a content that leaves no dimension, to itself or to style.

    Source: the split into shared and private latents is that of Wang, Yan, Lee and Livescu 2016, *Deep variational
        canonical correlation analysis* (arXiv:1610.03454).
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        content_dim: int | None = None,
        content_scale: float = 1.0,
        style_scale: float = 0.1,
    ) -> None:
        super().__init__()
        content_dim = latent_dim // 2 if content_dim is None else content_dim
        if not 1 <= content_dim < latent_dim:
            raise InputError(
                f"content_dim is {content_dim} of latent_dim {latent_dim}: content and style need a dimension or more "
                "each, give 1 <= content_dim < latent_dim"
            )
        self.likelihood = likelihood
        self.content_scale = positive("content_scale", content_scale, finite=True)
        self.style_scale: Tensor
        self.register_buffer("style_scale", torch.tensor(positive("style_scale", style_scale, finite=True)))
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(content_dim), persistent=False)
        self.private = (0, latent_dim - content_dim)

    def content(self) -> dist.TorchDistribution:
        return Gaussian(self.origin, self.content_scale)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        loc = F.pad(content, self.private)
        scale = F.pad(self.style_scale.expand_as(self.origin), self.private, value=1.0)
        return Gaussian(loc, scale)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content())
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                return pyro.sample("x", self.likelihood(z), obs=x)
