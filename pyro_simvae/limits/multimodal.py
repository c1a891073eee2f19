"""CLIP: the contrastive limit of the multimodal story, with a temperature that is learned."""

import math

import torch
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.limits.contrastive import InfoNCE
from pyro_simvae.limits.limit import Claim, Content

LARGEST_SCALE = 100.0
"""Of the logits, 1/τ: the paper's, so that training stays stable."""


class CLIP(InfoNCE):
    """Each modality's latent against another modality's of every group, both ways, over all pairs of modalities.

        ℓ_im = -log [ exp(z_im·z_im'/τ) / Σ_k exp(z_im·z_km'/τ) ]      averaged over i, m and m' ≠ m

    For two modalities this is the symmetrised cross-entropy; for M, the mean of it over the M(M-1)/2 pairs. Since the
    kernel's normalizer is in agreement and entropy alike, with opposite signs, it cancels for every τ: the limit's
    gradient with respect to τ is that of the literature, constant and all. In the story, to learn τ is to learn how
    long the sphere's radius is beside the style scale. (Not so with joint content: under flat content log p(z_1..M) is
    a density of contrasts only, and its normalizer leaves log τ over.)

    Args:
        temperature: τ to begin with, in [0.01, inf), in squared units of the sphere's radius.
        content, t: as in `Limit`.

    Raises:
        InputError: a temperature out of range.

    Source: Radford et al. 2021, *Learning transferable visual models from natural language supervision*
        (arXiv:2103.00020), figure 3; section 2.5 for τ.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NM = CLIP - log N, for M modalities the mean of CLIP over their pairs",
        geometry="sphere",
        content="pairwise",
        entropy="kernel density over another modality, the story's predictive kernel",
        parameters="temperature = v/a for p(z | z') = Normal(a z', v) of two modalities: 2 s² (flat content), "
        "2 s² + s⁴/g² (finite); learned as log(1/τ), 1/τ at most 100",
        source="Radford et al. 2021 (arXiv:2103.00020), figure 3",
        reference="the pseudo-code, transcribed; the gradient with respect to log(1/τ) as well",
    )

    def __init__(self, temperature: float = 0.07, content: Content = "pairwise", t: float = 1.0) -> None:
        super().__init__(temperature, content, t)
        if not temperature * LARGEST_SCALE >= 1:
            raise InputError(f"temperature is {temperature}: CLIP begins with 1/{LARGEST_SCALE:.0f} or more")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def temperature_of(self, dim: int) -> Tensor:
        with torch.no_grad():  # as after each step in the paper; nobody reads it in between
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return (-self.log_scale).exp()
