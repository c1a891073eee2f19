"""W-MSE: whitening fixes the entropy, so that agreement alone remains."""

from functools import partial

from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.limits.gaussian import Quadratic
from pyro_simvae.limits.geometry import sphere, whitened
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content


class WMSE(Quadratic):
    """Whitening: each view is mapped to covariance I over the batch, and views are drawn together.

        loss = mean |u_ij - u_ij'|² = 2 - 2 mean cos(w_ij, w_ij'),     w = whitened f(x), u = w / |w|

    A Gaussian representation whitens to N(0, I), with entropy D/2 log 2πe, and projects to the uniform distribution
    on the sphere, with entropy log 2π^(D/2) / Γ(D/2): constants both, whatever the encoder. The loss is then the
    limit itself, at τ = 1/2. A representation that is not Gaussian has less entropy, and that is not counted.

    Whitening is by the Cholesky factor of the whole batch's covariance; the paper's sub-batches are smaller batches.
    The factor takes dimensions in their order, and each view has its own, so a rotation of f(x) changes the loss.

    Args:
        unit_length: whether whitened views are projected to the unit sphere; without it the loss is |w - w'|².
        eps: in [0, 1], weight of I in the covariance that is whitened; 0 needs more than D groups.
        content, t: as in `Limit`.

    Raises:
        InputError: an eps out of range; in use, a covariance that has no inverse.

    Source: Ermolov et al. 2021, *Whitening for self-supervised representation learning* (arXiv:2007.06346),
    section 3.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = W-MSE + D/2 log π, with H[z] constant for Gaussian z",
        geometry="whitened, then the sphere",
        content="pairwise",
        entropy="none: whitening fixes it",
        parameters="temperature = 1/2 = 2 s² (flat content)",
        source="Ermolov et al. 2021 (arXiv:2007.06346), section 3",
        reference="lightly WMSELoss",
    )

    def __init__(
        self, unit_length: bool = True, eps: float = 0.0, content: Content = "pairwise", t: float = 1.0
    ) -> None:
        super().__init__(0.5, content, t)
        if not 0 <= eps <= 1:
            raise InputError(f"eps is {eps}: give a weight from 0 to 1")
        self.unit_length = unit_length
        self.eps = float(eps)
        self.geometry = partial(_whitened_to_sphere if unit_length else whitened, eps=self.eps)

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {}


def _whitened_to_sphere(z: Tensor, eps: float) -> Tensor:
    return sphere(whitened(z, eps))
