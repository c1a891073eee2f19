"""The point content guide: content set to the mean of its group's latents."""

from pyro import distributions as dist
from torch import Tensor, nn


class PointContent(nn.Module):
    """q(c | z_1..J) = δ(c - z̄). The objective then lacks the content's entropy: it is no bound on the evidence."""

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        """z: `(N, J, D)`. Returns batch shape `(N, 1)`, event shape `(D,)`."""
        return dist.Delta(z.mean(-2, keepdim=True), event_dim=1)
