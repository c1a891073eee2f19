"""DINO: discrete content, assigned by an EMA teacher whose favourite clusters are held back by a centre."""

import torch
from torch import Tensor, nn

from pyro_simvae.checks import fraction, positive
from pyro_simvae.inference.gather import gather
from pyro_simvae.limits.clustering import DENSITY, MAPPING, Clustering, log_components
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents, others
from pyro_simvae.limits.limit import Claim


class DINO(Clustering):
    """Each view predicts the teacher's cluster of another.

        ℓ_ij = -Σ_k q_ij'(k) log softmax_k(z_ij·c / τ),   q_ij' = softmax_k((z̃_ij'·c̃ - centre) / τ̃)

    averaged over j' ≠ j, with the teacher's z̃ and prototypes c̃. In the story q ∝ [p(k) p(z̃ | k)]^(τ/τ̃), the
    teacher's posterior, sharpened where τ > τ̃, under the prior p(k) ∝ exp(-centre_k / τ), which is low for clusters
    that lie near all latents: a running, approximate form of SwAV's balance, which does not make shares equal. The
    centre is that of cosines, whatever the story.

    Args:
        num_prototypes: K; the paper has 65536 for ImageNet.
        temperature: the student's τ > 0.
        teacher_temperature: τ̃ > 0.
        momentum: decay of the teacher's weights and prototypes at each step, in [0, 1].
        center_momentum: decay of the centre at each step, in [0, 1].
        t: as in `Limit`.

    Source: Caron et al. 2021, *Emerging properties in self-supervised vision transformers* (arXiv:2104.14294),
    equations 1 to 4.
    """

    claim = Claim(
        kind="alternating step",
        statement="-objective / NJ = DINO - log K, teacher and centre held",
        geometry="sphere",
        content="discrete: the teacher's centred assignments of the other views",
        entropy=DENSITY,
        parameters=MAPPING,
        source="Caron et al. 2021 (arXiv:2104.14294), equations 1 to 4",
        reference="lightly DINOLoss",
    )
    teacher_prototypes: Tensor
    center: Tensor

    def __init__(
        self,
        num_prototypes: int = 2048,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        momentum: float = 0.996,
        center_momentum: float = 0.9,
        t: float = 1.0,
    ) -> None:
        super().__init__(num_prototypes, temperature, t)
        self.teacher_temperature = positive("teacher_temperature", teacher_temperature, finite=True)
        self.momentum: float = fraction("momentum", momentum)
        self.center_momentum = fraction("center_momentum", center_momentum)

    def build(self, dim: int) -> None:
        super().build(dim)
        if not hasattr(self, "center"):
            self.register_buffer("teacher_prototypes", self.prototypes.detach().clone())
            self.register_buffer("center", torch.zeros(self.num_prototypes))

    def assignments(self, z: Tensor, latents: Latents, given: Given) -> Tensor:
        assert given.target is not None
        scores = self.temperature * log_components(latents, given.target, self.teacher_prototypes)
        posterior = ((scores - self.center) / self.teacher_temperature).softmax(-1)
        return others(posterior).mean(2)

    def update(self, z: Tensor, given: Given) -> None:
        assert given.target is not None
        mean = gather(given.target).mean((0, 1)) @ sphere(self.teacher_prototypes).mT
        self.center.lerp_(mean, 1 - self.center_momentum)

    @torch.no_grad()
    def follow(self, guide: nn.Module) -> None:
        super().follow(guide)
        self.teacher_prototypes.lerp_(self.prototypes, 1 - self.momentum)
