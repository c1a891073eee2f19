"""The linear limit: Gaussian entropy of a linear encoder, where the optimum has a closed form."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_simvae.checks import positive
from pyro_simvae.errors import InputError
from pyro_simvae.limits.covariance import LOG_2PIE, gaussian_entropy
from pyro_simvae.limits.gaussian import Quadratic
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content


class Affine(NamedTuple):
    """z = W x + b.

    Attributes:
        weight: W, `(D, P)`.
        bias: b, `(D,)`.
    """

    weight: Tensor
    bias: Tensor


class PCA(Quadratic):
    """The limit whose optimum is known for linear encoders: joint content, one Gaussian entropy for all views.

        objective / N = E log p(W x_1..W x_J) + J/2 log det 2πe(W Σ Wᵀ)

    Let S be the covariance of views around their group's mean, M that of group means, and Σ = S + M. Then

        objective / NJ = ½ log det W Σ Wᵀ - ½ tr W B Wᵀ + constant,     B = S / s² + M / (s² + J g²)

    and its gradient vanishes where Σ Wᵀ (W Σ Wᵀ)⁻¹ = B Wᵀ: the rows of W span generalised eigenvectors of
    S v = λ Σ v, and W B Wᵀ = I. The objective falls with each λ, so the best are the D smallest: the directions
    along which views differ least for their spread, as in discriminant analysis. W is unique up to a rotation.

    - Where S = σ² I, within-group noise that is isotropic, they span the principal subspace of the data: PCA.
    - Flat or finite content has the same subspace. Flat scales each direction to within-group variance s²; finite
      content scales it to a total variance 1 / (λ / s² + (1 - λ) / (s² + J g²)), which stays bounded as λ -> 0.

    Exact given Gaussian views; for others the entropy is an upper bound. Views share one covariance Σ, as views drawn
    alike do: with one for each view the optimum has no closed form.

    Args:
        temperature: τ > 0, in squared units of z; None leaves it to the story's scales (τ = 1 in `loss`).
        content, t: as in `Limit`.

    Raises:
        InputError: a temperature that is not positive and finite; in use, fewer representations than D + 1.

    Source: Fleissner, Esser and Ghoshdastidar 2025, *A probabilistic model for non-contrastive learning*
    (arXiv:2501.13031), who find PCA and a non-contrastive loss as maximum-likelihood regimes of one linear model.
    """

    claim = Claim(
        kind="exact",
        statement="objective / NJ + constant = ½ log det W Σ Wᵀ - ½ tr W B Wᵀ, greatest at generalised eigenvectors of "
        "(S, Σ) with W B Wᵀ = I; the principal subspace where S = σ² I",
        geometry="Euclidean, linear encoder",
        content="joint",
        entropy="Gaussian: ½ log det 2πe Cov, one for all views",
        parameters="the story's own s and g",
        source="Fleissner, Esser and Ghoshdastidar 2025 (arXiv:2501.13031)",
        reference="the optimum in closed form, and its value by L-BFGS",
    )

    def __init__(self, temperature: float | None = None, content: Content = "joint", t: float = 1.0) -> None:
        super().__init__(temperature, content, t)

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": gaussian_entropy(z, pooled=True)}

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        return super().constants(num_groups, num_views, dim) | {"entropy": dim * LOG_2PIE / 2}

    @staticmethod
    def optimum(x: Tensor, dim: int, style_scale: float, content_scale: float = math.inf) -> Affine:
        """The linear encoder that is best for joint content; `loss` at temperature τ has style_scale² = τ / 2.

        Args:
            x: views, `(N, J, P)`, of one process.
            dim: D, from 1 to P.
            style_scale: s > 0.
            content_scale: g > 0; infinite is flat content.

        Raises:
            InputError: views of another shape; D out of range; a scale that is not positive; views whose covariance
                has no inverse; flat content and a direction in which the views of every group coincide.
        """
        if x.dim() != 3:
            raise InputError(f"views have shape {tuple(x.shape)}: give (N, J, P), groups, views, values")
        num_views, size = x.shape[1:]
        if not 1 <= dim <= size:
            raise InputError(f"latent_dim is {dim}: give a number from 1 to the {size} values of a view")
        style = positive("style_scale", style_scale, finite=True)
        content = positive("content_scale", content_scale)
        mean = x.mean((0, 1))
        within = (x - x.mean(1, keepdim=True)).flatten(0, 1)
        total = (x - mean).flatten(0, 1)
        factor, failed = torch.linalg.cholesky_ex(total.mT @ total / len(total))
        if failed:
            raise InputError(f"the covariance of the {size} values has no inverse: give more views, or fewer values")
        whitened = torch.linalg.solve_triangular(factor, within.mT, upper=False)
        share, vectors = torch.linalg.eigh(whitened @ whitened.mT / len(total))  # λ in [0, 1], ascending
        share, vectors = share[:dim].clamp(min=0), vectors[:, :dim]
        precision = share / style**2 + (1 - share) / (style**2 + num_views * content**2)
        if not (precision > 0).all():
            raise InputError(
                "the views of every group coincide in some direction, which flat content stretches without end: "
                "give a finite content_scale"
            )
        weight = torch.linalg.solve_triangular(factor.mT, vectors / precision.sqrt(), upper=True).mT
        return Affine(weight, -weight @ mean)
