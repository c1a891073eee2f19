"""KoLeo: the entropy is the Kozachenko-Leonenko estimate, from distances to nearest neighbours."""

import math

import torch
from scipy.special import digamma
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.checks import positive
from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import first_row, gather
from pyro_simvae.limits.gaussian import Quadratic
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content


def nearest_neighbour_entropy(z: Tensor, intrinsic_dim: int, eps: float = 0.0) -> Tensor:
    """H[z] = E[d log ρ] + log V_d + ψ(N) - ψ(1), with ρ the distance to the nearest other group's same view.

    V_d is the volume of the unit ball of R^d. Consistent for any density; on a curved surface ρ is the chord, which
    is the distance within it to leading order.

    Args:
        z: `(N, J, D)`.
        intrinsic_dim: d, of the surface that z lies on: D, or D - 1 on the sphere.
        eps: added to each coordinate's difference and to ρ, so that duplicates stay finite.

    Returns:
        `(N, J)`, whose mean over groups estimates the entropy of each view, in nats.

    Source: Kozachenko and Leonenko 1987, *Sample estimate of the entropy of a random vector*; Kraskov, Stögbauer and
    Grassberger 2004 (arXiv:cond-mat/0305641), equation 20, for k = 1.
    """
    pool = gather(z).transpose(0, 1)
    anchors = z.transpose(0, 1)
    with torch.no_grad():
        # Distances by differences: products lose them where representations have nearly collapsed.
        distance = torch.cdist(anchors, pool, compute_mode="donot_use_mm_for_euclid_dist")
        rows = torch.arange(len(z), device=z.device)
        distance[:, rows, first_row(z) + rows] = torch.inf
        nearest = distance.argmin(-1, keepdim=True)
    neighbours = pool.gather(1, nearest.expand_as(anchors))
    radius = F.pairwise_distance(anchors, neighbours, eps=eps) + eps
    return intrinsic_dim * radius.log().T + _constant(pool.shape[1], intrinsic_dim)


def _constant(num_groups: int, dim: int) -> float:
    """log V_d + ψ(N) - ψ(1)."""
    log_volume = dim * math.log(math.pi) / 2 - math.lgamma(dim / 2 + 1)
    return log_volume + float(digamma(num_groups) - digamma(1))


class KoLeo(Quadratic):
    """Nearest-neighbour entropy on the sphere, whose intrinsic dimension is D - 1.

        loss = mean_ij |z_ij - z_ij'|² / 2τ - (D - 1) mean_ij log min_k |z_ij - z_kj|

    The literature has the second term alone, as a regularizer KoLeo = -mean log min |z - z_k|. A weight w for
    1 - cos(z, z') and κ for KoLeo is τ = κ / w (D - 1).

    Args:
        temperature: τ > 0; the literature names none.
        eps: as in `nearest_neighbour_entropy`, > 0.
        content, t: as in `Limit`.

    Raises:
        InputError: a temperature or an eps that is not positive; D = 1.

    Source: Sablayrolles et al. 2019, *Spreading vectors for similarity search* (arXiv:1806.03198), section 3.
    """

    geometry = staticmethod(sphere)
    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = |z - z'|²/2τ + (D - 1) KoLeo + D/2 log 2πτ - log V - ψ(N) + ψ(1), as N -> ∞",
        geometry="sphere",
        content="pairwise",
        entropy="nearest neighbour (Kozachenko-Leonenko), intrinsic dimension D - 1",
        parameters="temperature = variance of one view given another: 2 s² (flat content)",
        source="Sablayrolles et al. 2019 (arXiv:1806.03198), section 3",
        reference="lightly KoLeoLoss",
    )

    def __init__(
        self, temperature: float | None = 0.5, eps: float = 1e-8, content: Content = "pairwise", t: float = 1.0
    ) -> None:
        super().__init__(temperature, content, t)
        self.eps = positive("eps", eps, finite=True)

    def build(self, dim: int) -> None:
        if dim < 2:
            raise InputError(f"KoLeo measures areas on the sphere, and latent_dim is {dim}: give 2 or more")

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": nearest_neighbour_entropy(z, z.shape[-1] - 1, self.eps)}

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        return super().constants(num_groups, num_views, dim) | {"entropy": _constant(num_groups, dim - 1)}
