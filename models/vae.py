"""The VAE story: every view on its own, with nothing shared between the views of a group."""

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_simvae.checks import plate_sizes
from pyro_simvae.distributions import Gaussian
from pyro_simvae.likelihoods import Likelihood


class VAE(PyroModule):
    """p(x, z) = Π_ij p(z_ij) p(x_ij | z_ij).

        latent    z_ij ~ Normal(0, I)           (N, J, D)
        view      x_ij ~ likelihood(z_ij)       (N, J, *event)

    It is SimVAE's story without content. The β-VAE is this story fitted with `--training.kl_weight β`.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.

    Source: Kingma and Welling 2014 (arXiv:1312.6114); Higgins et al. 2017 for β.
    """

    def __init__(self, likelihood: Likelihood, latent_dim: int) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 1) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
            z = pyro.sample("z", Gaussian(self.origin, 1.0))
            return pyro.sample("x", self.likelihood(z), obs=x)
