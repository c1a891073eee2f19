"""Contrastive limits: the entropy is a kernel density under the story's own predictive kernel.

The predictive kernel of a Gaussian story, p(z | z') = Normal(a z', v), is exp(-|z - z'|²/2τ) on the sphere, up to a
constant, with τ = v/a; under flat content a = 1, and τ = 2 s² is the variance of one view given another. That kernel
is exp(z·z'/τ). Agreement plus entropy is then the log-ratio of the pair's similarity to the batch's, and under an
edited story it is the same ratio of that story's kernels.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pyro_simvae.checks import positive
from pyro_simvae.errors import unknown_name
from pyro_simvae.inference.gather import gather
from pyro_simvae.limits.entropy import log_density, log_density_across
from pyro_simvae.limits.geometry import euclidean, sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content, Limit

Geometry = Literal["sphere", "euclidean"]
GEOMETRIES = {"sphere": sphere, "euclidean": euclidean}

MAPPING = "temperature = v/a for p(z | z') = Normal(a z', v): 2 s² (flat content), 2 s² + s⁴/g² (finite)"


class Contrastive(Limit):
    """What contrastive limits share: the sphere, pairwise content and a temperature.

    Args:
        temperature: τ > 0, in squared units of z, whose unit on the sphere is the radius; None leaves it to the story's
            scales.
        content, t: as in `Limit`.
        geometry: "sphere"; or "euclidean", z as it is, so that D dimensions hold as many numbers. Similarities are then
            -|z - z'|²/2τ in place of z·z'/τ.

    Raises:
        InputError: a temperature that is not positive and finite; an unknown geometry.
    """

    geometry = staticmethod(sphere)

    def __init__(
        self,
        temperature: float | None = 0.5,
        content: Content = "pairwise",
        t: float = 1.0,
        geometry: Geometry = "sphere",
    ) -> None:
        super().__init__(content, t)
        if geometry not in GEOMETRIES:
            raise unknown_name("geometry", geometry, GEOMETRIES)
        self.geometry = GEOMETRIES[geometry]
        self.temperature = None if temperature is None else positive("temperature", temperature, finite=True)

    def temperature_of(self, dim: int) -> float | Tensor | None:
        return self.temperature

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float | Tensor]:
        """The kernel's normalizer, and the number of candidates: the literature sums where a density averages."""
        given = self.temperature_of(dim)
        temperature = 1.0 if given is None else given.detach() if isinstance(given, Tensor) else given
        log = temperature.log() if isinstance(temperature, Tensor) else math.log(temperature)
        normalizer = dim * (math.log(2 * math.pi) + log) / 2
        if self.geometry is sphere:
            normalizer = normalizer + 1 / temperature  # -|z - z'|²/2τ = z·z'/τ - 1/τ
        return {"agreement": -normalizer, "entropy": normalizer + math.log(self.num_candidates(num_groups, num_views))}

    def num_candidates(self, num_groups: int, num_views: int) -> int:
        """Latents that the density of one latent averages over."""
        return num_groups * num_views - 1


class SimCLR(Contrastive):
    """NT-Xent: each view against all other latents of the batch, its partners included.

        ℓ_ij = -log [ exp(z_ij·z_ij'/τ) / Σ_{k ≠ (i, j)} exp(z_ij·z_k/τ) ]

    Source: Chen et al. 2020, *A simple framework for contrastive learning* (arXiv:2002.05709), equation 1.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = NT-Xent - log(NJ - 1)",
        geometry="sphere",
        content="pairwise",
        entropy="leave-one-out kernel density, the story's predictive kernel",
        parameters=MAPPING,
        source="Chen et al. 2020 (arXiv:2002.05709), equation 1",
        reference="lightly NTXentLoss",
    )

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": -log_density(latents, z)}


class DCL(Contrastive):
    """Decoupled contrastive learning: NT-Xent with the group's own latents left out of the density.

    Source: Yeh et al. 2021, *Decoupled contrastive learning* (arXiv:2110.06848), equation 6.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = DCL - log((N - 1) J)",
        geometry="sphere",
        content="pairwise",
        entropy="kernel density over the other groups, the story's predictive kernel",
        parameters=MAPPING,
        source="Yeh et al. 2021 (arXiv:2110.06848), equation 6",
        reference="lightly DCLLoss",
    )

    def __init__(
        self,
        temperature: float | None = 0.1,
        content: Content = "pairwise",
        t: float = 1.0,
        geometry: Geometry = "sphere",
    ) -> None:
        super().__init__(temperature, content, t, geometry)

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": -log_density(latents, z, "other groups")}

    def num_candidates(self, num_groups: int, num_views: int) -> int:
        return (num_groups - 1) * num_views


class MutualInformation(NamedTuple):
    """Estimates of the mutual information of two views' latents, in nats.

    Attributes:
        bound: log N - InfoNCE, `()`: a lower bound, at most log N.
        pointwise: log p(z_ij | z_ij') - log q̂(z_ij) of each view, `(N, J)`; its mean is the bound.
    """

    bound: Tensor
    pointwise: Tensor


class InfoNCE(Contrastive):
    """Each view against one other view of every group, its partner included.

        ℓ_ij = -log [ exp(z_ij·z_ij'/τ) / Σ_k exp(z_ij·z_kj'/τ) ]

    Source: van den Oord, Li and Vinyals 2018, *Representation learning with contrastive predictive coding*
    (arXiv:1807.03748), equation 4.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = InfoNCE - log N",
        geometry="sphere",
        content="pairwise",
        entropy="kernel density over the other view, the story's predictive kernel",
        parameters=MAPPING,
        source="van den Oord, Li and Vinyals 2018 (arXiv:1807.03748), equation 4",
        reference="the equation, transcribed",
    )

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": -log_density_across(latents, z)}

    def num_candidates(self, num_groups: int, num_views: int) -> int:
        return num_groups

    def mutual_information(self, z: Tensor, latents: Latents) -> MutualInformation:
        """The bound and the pointwise mutual information of the story, for representations z `(N, J, D)`.

        Args:
            z: before the geometry's map.
            latents: the story's, as in `LimitModel.latents`.
        """
        terms = self.terms(self.geometry(z), latents, Given())
        pointwise = torch.stack(list(terms.values())).sum(0)
        return MutualInformation(gather(pointwise).mean(), pointwise)
