"""Limits whose agreement is a square; the first estimates the entropy of a Gaussian by its determinant."""

import math

from torch import Tensor

from pyro_simvae.checks import not_negative, positive
from pyro_simvae.limits.covariance import LOG_2PIE, gaussian_entropy
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content, Limit


class Quadratic(Limit):
    """What limits of this family share: under the default story the agreement is |z_ij - z_ij'|² / 2τ.

    The literature's losses drop the Gaussian's normalizer, so `constants` holds it. Under flat content a group's mean
    is Σ_j |z_j - z̄|² / (J - 1) τ for pairwise and leave-one-out content alike: they differ by a constant only. Joint
    content has (J - 1) / J of that weight.

    Args:
        temperature: τ > 0, in squared units of z; None leaves it to the story's scales.
        content, t: as in `Limit`.

    Raises:
        InputError: a temperature that is not positive and finite.
    """

    def __init__(self, temperature: float | None, content: Content = "pairwise", t: float = 1.0) -> None:
        super().__init__(content, t)
        self.temperature = None if temperature is None else positive("temperature", temperature, finite=True)

    def temperature_of(self, dim: int) -> float | Tensor | None:
        return self.temperature

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        """The agreement of views that coincide: the normalizer, from that of the evidence of J views."""
        temperature = self.temperature_of(dim)
        variance = 0.5 if temperature is None else float(temperature) / 2

        def evidence(views: int) -> float:
            return -dim * ((views - 1) * math.log(2 * math.pi * variance) + math.log(views)) / 2

        if self.content == "joint":
            return {"agreement": evidence(num_views) / num_views}
        given = num_views - 1 if self.content == "leave-one-out" else 1
        return {"agreement": evidence(given + 1) - evidence(given)}


class LogDet(Quadratic):
    """Log-determinant entropy: the mutual information of a Gaussian's views, bounded from below.

        loss = mean_ij |z_ij - z_ij'|² / 2τ - mean_j ½ log det(Cov_j + εI)

    With E log p(z | z') as the story has it, H[z] + E log p(z | z') <= I(z; z') for any z, and the entropy is exact
    for Gaussian z. CorInfoMax is four times this for J = 2,

        -log det(Cov_1 + εI) - log det(Cov_2 + εI) + α mean_i |z_i1 - z_i2|²,     τ = 2 / α

    (its equation ties α = 2 / ε; its code sets them apart, and averages covariances with those of earlier steps at a
    weight of 0.01, which is left out here). The total coding rate, ½ log det(I + D / Nε² ZᵀZ), is on centred z this
    term at ε²/D for the ε here, plus D/2 log(D / ε²).

    Rotations and translations of z change nothing. For ε = 0 the unit of z is that of τ: loss(a z) at a² τ is
    loss(z) at τ, less D log a.

    Args:
        temperature: τ; 2 / α for α = 500.
        eps: ε >= 0, in squared units of z.
        content, t: as in `Limit`.

    Raises:
        InputError: a temperature or an eps out of range; with eps = 0, fewer than D + 1 groups.

    Source: Ozsoy et al. 2022, *Self-supervised learning with an information maximization criterion*
    (arXiv:2209.07999); Yu et al. 2020 (arXiv:2006.08558) for the coding rate.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = loss + D/2 log 2πτ - D/2 log 2πe, and CorInfoMax = 4 loss; given Gaussian z",
        geometry="Euclidean",
        content="pairwise",
        entropy="Gaussian: ½ log det 2πe(Cov + εI) for each view",
        parameters="α = 2 / temperature; temperature = 2 s² (flat content)",
        source="Ozsoy et al. 2022 (arXiv:2209.07999)",
        reference="CorInfoMax, transcribed; lightly's tcr_loss for the entropy",
    )

    def __init__(
        self, temperature: float | None = 0.004, eps: float = 1e-8, content: Content = "pairwise", t: float = 1.0
    ) -> None:
        super().__init__(temperature, content, t)
        self.eps = not_negative("eps", eps)

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": gaussian_entropy(z, self.eps)}

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        return super().constants(num_groups, num_views, dim) | {"entropy": dim * LOG_2PIE / 2}
