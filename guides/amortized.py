"""The amortized content guide: for stories whose content posterior has no closed form."""

import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.distributions import Gaussian


class AmortizedContent(nn.Module):
    """q(c | z_1..J) = Normal(z̄ + shift(h), (scale(h) / √J)²), with h = mean_j φ(z_j) pooled over the views.

    Pooling by the mean makes it blind to the order of the views and fit for any J; the factor 1/√J is how
    a posterior narrows with the number of observations.

    Args:
        latent_dim: D.
        hidden: width of φ and of the network behind the pooling.

    Source: Zaheer et al. 2017, *Deep sets* (arXiv:1703.06114), for the pooling.
    """

    def __init__(self, latent_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.view = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.group = nn.Sequential(nn.Linear(hidden + latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent_dim))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        """z: `(N, J, D)`. Returns batch shape `(N, 1)`, event shape `(D,)`."""
        mean = z.mean(-2, keepdim=True)
        pooled = self.view(z).mean(-2, keepdim=True)
        output = self.group(torch.cat([pooled, mean], -1)).to(z.dtype)
        shift, raw_scale = output.chunk(2, -1)
        scale = (F.softplus(raw_scale) + 1e-5) / z.shape[-2] ** 0.5
        return Gaussian(mean + shift, scale)
