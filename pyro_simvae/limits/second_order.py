"""VICReg and Barlow Twins: the Gaussian entropy by its second-order expansion around N(0, I)."""

from itertools import combinations

import torch
from torch import Tensor

from pyro_simvae.checks import not_negative, positive
from pyro_simvae.inference.gather import gather
from pyro_simvae.limits.covariance import covariance, scale_shortfall, squared_covariances
from pyro_simvae.limits.gaussian import Quadratic
from pyro_simvae.limits.geometry import standardised
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content


class VICReg(Quadratic):
    """Invariance, variance and covariance: agreement, and a surrogate of the entropy in two terms.

        loss = λ/D |z_ij - z_ij'|² + μ/D Σ_d max(0, 1 - σ_jd) + 2ν/D Σ_{d≠d'} C_jdd'²       averaged over i and j

    With σ, R the scales and correlations of a view, -½ log det Σ = -Σ_d log σ_d - ½ log det R. Around Σ = I the
    first part is Σ_d (1 - σ_d) to first order and the second ¼ Σ_{d≠d'} C_dd'² to second order, so μ = D and
    ν = D / 8 are the entropy in nats. Only ratios matter to where the loss is least: divided by μ/D it is the limit
    at s² = μ / 4λ, whose covariance term weighs 8 ν / μ of its second-order value. At the defaults that is s² = 1/4
    and a weight of 0.32. What is surrogate: the hinge, which stops at σ = 1; and squared covariances at σ ≠ 1.

    Args:
        lambda_param, mu_param, nu_param: λ > 0, μ >= 0 and ν >= 0, weights of invariance, variance and covariance.
        eps: >= 0, added to variances.
        content, t: as in `Limit`.

    Raises:
        InputError: a weight or an eps out of range.

    Source: Bardes, Ponce and LeCun 2022, *VICReg* (arXiv:2105.04906), equations 1-6; the covariances of both views
    are added, their variance terms averaged, as in the authors' code.
    """

    claim = Claim(
        kind="surrogate",
        statement="-objective / NJ = VICReg + D/2 log 2πτ, its entropy a second-order surrogate of ½ log det Cov",
        geometry="Euclidean",
        content="pairwise",
        entropy="variance hinge and squared covariances; in nats for μ = D, ν = D/8",
        parameters="λ/D = 1 / (4 s²): temperature = D / 2λ = 2 s² (flat content)",
        source="Bardes, Ponce and LeCun 2022 (arXiv:2105.04906), equations 1-6",
        reference="lightly VICRegLoss",
    )

    def __init__(
        self,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 1.0,
        eps: float = 1e-4,
        content: Content = "pairwise",
        t: float = 1.0,
    ) -> None:
        super().__init__(None, content, t)
        self.lambda_param = positive("lambda_param", lambda_param, finite=True)
        self.mu_param = not_negative("mu_param", mu_param)
        self.nu_param = not_negative("nu_param", nu_param)
        self.eps = not_negative("eps", eps)

    def temperature_of(self, dim: int) -> float:
        return dim / (2 * self.lambda_param)

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        dim = z.shape[-1]
        cov = covariance(z, correction=1)
        return {
            "variance": -self.mu_param / dim * scale_shortfall(cov, self.eps),
            "covariance": -2 * self.nu_param / dim * squared_covariances(cov),
        }


class BarlowTwins(Quadratic):
    """Redundancy reduction: the cross-correlation of two views, drawn towards the identity.

        loss = Σ_d (1 - C_dd)² + λ Σ_{d≠d'} C_dd'²,     C = mean_i z_i1 z_i2ᵀ

    **Agreement.** For standardised z the story's own agreement, τ = 1, is linear in e_d = 1 - C_dd: the mean of
    |z_i1d - z_i2d|² / 2 is e_d. The square is that agreement at a precision of its own for each dimension,

        e_d² = max_w (2 w_d e_d - w_d²)   at   w_d = e_d,

    so the loss has the gradient of 2 A(√w z), A the story's agreement and w held at e: where views already agree,
    the style is taken to be wide. The loss is the greatest over w, and a fitted precision would make it the least:
    hence a surrogate. The ε of the standardisation leaves a variance q < 1, and e exceeds the mean by r = 1 - q.

    **Entropy.** At unit variances ½ log det R = -¼ Σ_{d≠d'} R_dd'² to second order, R the correlations of one view.
    In their place are those across views, the same where views agree. So loss / 4λ has the entropy in nats.

    More than two views: C_dd is averaged over pairs, and so is the sum of squares off the diagonal. Joint content
    has no dimension-wise precision, its agreement is linear in e.

    Args:
        lambda_param: λ >= 0, weight of redundancy.
        content, t: as in `Limit`.

    Raises:
        InputError: a negative weight.

    Source: Zbontar et al. 2021, *Barlow Twins* (arXiv:2103.03230), equations 1 and 2.
    """

    geometry = staticmethod(standardised)
    claim = Claim(
        kind="surrogate",
        statement="-objective / NJ = Barlow Twins + D log 2π: its gradient is that of 2 A(√w z), w_d = 1 - C_dd held, "
        "A the story's agreement at 2 s² = 1, plus 4λ times a second-order surrogate of ½ log det R",
        geometry="standardised",
        content="pairwise",
        entropy="squared correlations across views; loss / 4λ has it in nats",
        parameters="1 / temperature of dimension d = 2 (1 - C_dd); (1 - C_dd) / 2λ where the entropy is in nats",
        source="Zbontar et al. 2021 (arXiv:2103.03230), equations 1 and 2",
        reference="lightly BarlowTwinsLoss",
    )

    def __init__(self, lambda_param: float = 5e-3, content: Content = "pairwise", t: float = 1.0) -> None:
        super().__init__(1.0, content, t)
        self.lambda_param = not_negative("lambda_param", lambda_param)

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        if self.content == "joint":
            return super().agreement(z, latents, given)
        batch = gather(z)
        num_views = z.shape[1]
        remainder = 1 - batch.square().mean((0, 1))
        pairs = (batch.sum(1).square() - batch.square().sum(1)) / (num_views * (num_views - 1))
        weight = (1 - pairs.mean(0)).detach().clamp(min=0)
        (agreement,) = super().agreement(weight.sqrt() * z, latents, given).values()
        return {"agreement": 2 * agreement + (weight.square() - 2 * weight * remainder).sum()}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        views = gather(z).unbind(1)
        squares = [squared_covariances(a.mT @ b / len(a)) for a, b in combinations(views, 2)]
        return {"redundancy": -self.lambda_param * torch.stack(squares).mean()}

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        constants = super().constants(num_groups, num_views, dim)
        return constants if self.content == "joint" else {"agreement": 2 * constants["agreement"]}
