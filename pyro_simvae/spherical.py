"""The power spherical distribution: directions around a mean direction, drawn with gradients in any dimension."""

import math
from typing import Any

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.distributions import Size


class PowerSpherical(dist.TorchDistribution):
    """p(x) ∝ (1 + μ·x)^κ on the unit sphere of R^D; κ = 0 is uniform.

        log p(x) = κ log(½ + ½ μ·x) - β log 4π - log Γ(α) + log Γ(α + β),   α = β + κ,  β = (D - 1)/2
        x = t μ + √(1 - t²) v,   (1 + t)/2 ~ Beta(α, β),   v uniform on the directions orthogonal to μ

    It looks like von Mises-Fisher, whose normalizer is a Bessel function and whose draws are rejection sampling; this
    has an elementary density and draws that are differentiable in μ and κ. Written here because Pyro has none
    (its ProjectedNormal has a density for D <= 4 only), and the published package is no Pyro distribution: it cannot
    be expanded by a plate.

    Args:
        loc: μ, `(*batch, D)`, of unit length, D >= 2.
        concentration: κ >= 0, `batch`.

    Source: De Cao and Aziz 2020, *The power spherical distribution* (arXiv:2006.04437), equations 4-6 and algorithm 1,
    with v projected off μ in place of their reflection, which has no gradient where μ is the pole.
    """

    arg_constraints = {  # noqa: RUF012 (torch's own protocol)
        "loc": constraints.sphere,
        "concentration": constraints.nonnegative,
    }
    support = constraints.sphere
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = False) -> None:
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc = loc.expand(*batch_shape, loc.shape[-1])
        self.concentration = concentration.expand(batch_shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "PowerSpherical":
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return PowerSpherical(loc, self.concentration.expand(tuple(batch_shape)), self._validate_args)

    @property
    def _beta(self) -> float:
        return (self.event_shape[0] - 1) / 2

    @property
    def mean(self) -> Tensor:
        """The mean vector, inside the sphere: μ κ / (κ + D - 1)."""
        return self.loc * (self.concentration / (self.concentration + 2 * self._beta)).unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """Of each coordinate, `(*batch, D)`: that of t along μ, and an equal share of E[1 - t²] across."""
        alpha, beta = self.concentration + self._beta, self._beta
        along = 4 * alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1))
        mean = (alpha - beta) / (alpha + beta)
        across = (1 - along - mean**2) / (2 * beta)
        return across.unsqueeze(-1) + (along - across).unsqueeze(-1) * self.loc.square()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # ½ + ½ μ·x = 1 - |x - μ|² / 4, which keeps its digits where x is near μ and κ is large.
        distance = (value - self.loc).square().sum(-1).clamp(max=4)
        return torch.special.xlog1py(self.concentration, -distance / 4) + self._log_normalizer()

    def _log_normalizer(self) -> Tensor:
        # The two log Γ are large and almost equal where κ is: in float32 nothing of their difference would be left.
        alpha, beta = self.concentration.double() + self._beta, self._beta
        return (torch.lgamma(alpha + beta) - torch.lgamma(alpha) - beta * math.log(4 * math.pi)).to(self.loc.dtype)

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        loc = self.loc.expand(self._extended_shape(sample_shape))
        alpha = (self.concentration + self._beta).expand(loc.shape[:-1])
        # Both shares of the Beta, since 1 - t² is their product, and t so near to 1 that 1 - t has no digits left.
        shares = dist.Dirichlet(torch.stack([alpha, torch.full_like(alpha, self._beta)], -1)).rsample()
        shares = shares.clamp(min=torch.finfo(loc.dtype).eps)  # where √ has no gradient
        cosine = (shares[..., 0] - shares[..., 1]).unsqueeze(-1)
        sine = 2 * shares.prod(-1, keepdim=True).sqrt()
        noise = torch.randn_like(loc)
        across = F.normalize(noise - (noise * loc).sum(-1, keepdim=True) * loc, dim=-1)
        return F.normalize(cosine * loc + sine * across, dim=-1)
