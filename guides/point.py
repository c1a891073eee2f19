"""The point content guide: content set to the mean of its group's latents."""

from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae.modalities import mean_of_present


class PointContent(nn.Module):
    """q(c | z_1..J) = δ(c - z̄). The objective then lacks the content's entropy: it is no bound on the evidence.

    Args:
        content_dim: C; the content is the mean of the first C dimensions. All of them by default.
    """

    def __init__(self, content_dim: int | None = None) -> None:
        super().__init__()
        self.content_dim = content_dim

    def forward(self, z: Tensor, present: Tensor | None = None) -> dist.TorchDistribution:
        """z: `(N, J, D)`; present: `(N, J)`, or None for all. Returns batch shape `(N, 1)`, event shape `(C,)`."""
        return dist.Delta(mean_of_present(z[..., : self.content_dim], present), event_dim=1)
