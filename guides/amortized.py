"""The amortized content guide: for stories whose content posterior has no closed form."""

import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.distributions import Gaussian
from pyro_simvae.modalities import mean_of_present


class AmortizedContent(nn.Module):
    """q(c | z_1..J) = Normal(z̄ + shift(h), (scale(h) / √J)²), with h = mean_j φ(z_j) pooled over the views.

    Pooling by the mean makes it blind to the order of the views and fit for any J; the factor 1/√J is how
    a posterior narrows with the number of observations.

    Args:
        latent_dim: D.
        hidden: width of φ and of the network behind the pooling.
        content_dim: C <= D; D by default. With fewer, z̄ is that of the first C dimensions.

    Source: Zaheer et al. 2017, *Deep sets* (arXiv:1703.06114), for the pooling.
    """

    def __init__(self, latent_dim: int, hidden: int = 128, content_dim: int | None = None) -> None:
        super().__init__()
        self.content_dim = latent_dim if content_dim is None else content_dim
        outputs = 2 * self.content_dim
        self.view = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.group = nn.Sequential(nn.Linear(hidden + latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, z: Tensor, present: Tensor | None = None) -> dist.TorchDistribution:
        """z: `(N, J, D)`; present: `(N, J)`, or None for all. Returns batch shape `(N, 1)`, event shape `(C,)`."""
        mean = mean_of_present(z, present)
        pooled = mean_of_present(self.view(z), present)
        count = z.shape[-2] if present is None else present.sum(-1)[..., None, None]
        output = self.group(torch.cat([pooled, mean], -1)).to(z.dtype)
        shift, raw_scale = output.chunk(2, -1)
        scale = (F.softplus(raw_scale) + 1e-5) / count**0.5
        return Gaussian(mean[..., : self.content_dim] + shift, scale)
