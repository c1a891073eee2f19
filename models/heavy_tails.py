"""The heavy-tailed story: SimVAE whose views may stray far from what their group shares."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.distributions import Gaussian
from pyro_simvae.likelihoods import Likelihood


class HeavyTails(PyroModule):
    """p(x, z, c) = Π_i p(c_i) Π_j p(z_ij | c_i) p(x_ij | z_ij), with a style that is Student's t in each dimension.

        content   c_i  ~ Normal(0, g² I)                what the views share      (N, 1, D)
        latent    z_ij ~ Π_d StudentT(ν, c_id, s)       content plus style        (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                         (N, J, *event)

    An outlying view pulls its group's content less than under SimVAE, which is the limit ν → ∞. The matched guide is
    `MeanField` with amortized content, since the content's posterior has no closed form.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        degrees_of_freedom: ν > 0; the style has a variance, s² ν / (ν - 2), above 2 only.
        style_scale: s > 0.
        content_scale: g > 0.

    Raises:
        InputError: a scale, or degrees of freedom, that are not positive and finite.

    Source: Lange, Little and Taylor 1989, *Robust statistical modeling using the t distribution*.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        degrees_of_freedom: float = 4.0,
        style_scale: float = 0.4,
        content_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.degrees_of_freedom = positive("degrees_of_freedom", degrees_of_freedom, finite=True)
        self.style_scale = positive("style_scale", style_scale, finite=True)
        self.content_scale = positive("content_scale", content_scale, finite=True)
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def content(self) -> dist.TorchDistribution:
        return Gaussian(self.origin, self.content_scale)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return dist.StudentT(self.degrees_of_freedom, content, self.style_scale, validate_args=False).to_event(1)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content())
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                return pyro.sample("x", self.likelihood(z), obs=x)
