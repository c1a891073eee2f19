"""The relevance story: which dimensions hold content and which hold style is inferred, with its uncertainty."""

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor

from pyro_simvae.checks import count, plate_sizes, positive
from pyro_simvae.distributions import Gaussian
from pyro_simvae.likelihoods import Likelihood


class Relevance(PyroModule):
    """p(x, z, c, s) = Π_d p(s_d) Π_i p(c_i) Π_j p(z_ij | c_i, s) p(x_ij | z_ij): SimVAE with latent style scales.

        style scale   s_d  ~ LogNormal(log s_0, r²)         one for all groups        (D,)
        content       c_i  ~ Normal(0, g² I)                what the views share      (N, 1, D)
        latent        z_ij ~ Normal(c_i, diag(s²))          content plus style        (N, J, D)
        view          x_ij ~ likelihood(z_ij)                                         (N, J, *event)

    Dimensions of small s_d are content, those of large s_d style, and the posterior of s says how surely. The data set
    has M groups and one s: a batch of N counts its site with the weight N / M (`poutine.scale`), in story and guide.
    The matched guide is `MeanField` with amortized content and a factor for the site "style_scale".

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        num_items: M, groups of the training set, >= 1.
        content_scale: g > 0.
        style_scale: s_0 > 0, the prior's median.
        spread: r > 0, the prior's standard deviation of log s_d.

    Raises:
        InputError: M < 1, or a scale or spread that is not positive and finite.

    Source: automatic relevance determination, MacKay 1995, *Probable networks and plausible predictions*, and Neal
        1996, *Bayesian learning for neural networks*; for latent dimensions Bishop 1999, *Bayesian PCA*. There a prior
        on the scales of weights finds the inputs that matter.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        num_items: int,
        content_scale: float = 1.0,
        style_scale: float = 0.4,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.num_items = count("num_items", num_items)
        self.content_scale = positive("content_scale", content_scale, finite=True)
        self.spread = positive("spread", spread, finite=True)
        median = torch.full((latent_dim,), positive("style_scale", style_scale, finite=True))
        self.median: Tensor
        self.register_buffer("median", median, persistent=False)

    def style_scales(self) -> dist.TorchDistribution:
        return dist.LogNormal(self.median.log(), self.spread, validate_args=False).to_event(1)

    def content(self) -> dist.TorchDistribution:
        return Gaussian(torch.zeros_like(self.median), self.content_scale)

    def latent(self, content: Tensor, style_scale: Tensor) -> dist.TorchDistribution:
        return Gaussian(content, style_scale)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with poutine.scale(scale=num_groups / self.num_items):
            style_scale = pyro.sample("style_scale", self.style_scales())
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content())
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content, style_scale))
                return pyro.sample("x", self.likelihood(z), obs=x)
