"""The mixture story: what the views of a group share is which of a few clusters they belong to."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood


class Mixture(PyroModule):
    """p(x, z, k) = Π_i p(k_i) Π_j p(z_ij | k_i) p(x_ij | z_ij): SimVAE with a content that is one of K locations.

        cluster   k_i  ~ Categorical(π)               which of K contents           (N, 1)
        latent    z_ij ~ Normal(m_k, s² I)            content plus style            (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                           (N, J, *event)

    π and m are learned. No guide needs k: `LedgerELBO` and Pyro's `TraceEnum_ELBO` sum it out of the program, exactly,
    to log p(z_1..J) = log Σ_k π_k Π_j p(z_j | k). Its posterior given the latents is exact too: `responsibilities`.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        num_clusters: K >= 2.
        style_scale: s > 0.

    Raises:
        InputError: K < 2, or a scale that is not positive and finite.
    """

    def __init__(
        self, likelihood: Likelihood, latent_dim: int, num_clusters: int = 10, style_scale: float = 0.4
    ) -> None:
        super().__init__()
        if num_clusters < 2:
            raise InputError(f"num_clusters is {num_clusters}: give 2 or more")
        self.likelihood = likelihood
        self.style_scale = positive("style_scale", style_scale, finite=True)
        self.logits = nn.Parameter(torch.zeros(num_clusters))
        self.locs = nn.Parameter(torch.randn(num_clusters, latent_dim))

    def cluster(self) -> dist.TorchDistribution:
        return dist.Categorical(logits=self.logits, validate_args=False)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return dist.Normal(content, self.style_scale, validate_args=False).to_event(1)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            cluster = pyro.sample("cluster", self.cluster(), infer={"enumerate": "parallel"})
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(self.locs[cluster]))
                return pyro.sample("x", self.likelihood(z), obs=x)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z_1..J), exact, for latents z `(N, J, D)`: `(N, K)`."""
        return self._log_joint(z).softmax(-1)

    def evidence(self, z: Tensor) -> Tensor:
        """log p(z_1..J), exact, in nats, for latents z `(N, J, D)`: `(N,)`."""
        return self._log_joint(z).logsumexp(-1)

    def _log_joint(self, z: Tensor) -> Tensor:
        """log p(k, z_1..J): `(N, K)`."""
        by_view = self.latent(self.locs).log_prob(z.unsqueeze(-2))  # (N, J, K)
        return self.logits.log_softmax(-1) + by_view.sum(1)
