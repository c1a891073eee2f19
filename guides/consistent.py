"""The consistent guide of CR-VAE: mean field, and a penalty where it tells the views of a group apart."""

from typing import Any

from pyro import distributions as dist
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.checks import not_negative
from pyro_simvae.guides.mean_field import MeanField
from pyro_simvae.networks import Encoder
from pyro_simvae.penalty import penalty


class Consistent(PyroModule):
    """q(z, c | x) of `MeanField`, with the penalty λ (J - 1) mean_{j ≠ k} KL( q(z | x_j) ‖ q(z | x_k) ) of each group.

    For J = 2 it is λ times the mean of the divergences in both directions. With the `vae` story it makes a CR-VAE,
    whose published form has an image and a view of it, and one direction.

    Args:
        model: the story.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`.
        weight: λ >= 0.

    Raises:
        InputError: a negative weight, or what `MeanField` refuses.

    Source: Sinha and Dieng 2021, *Consistency regularization for variational auto-encoders* (arXiv:2105.14859),
        equation 5.
    """

    def __init__(self, model: nn.Module, encoder: Encoder, weight: float = 0.1) -> None:
        super().__init__()
        self.mean_field = MeanField(model, encoder)
        self.weight = not_negative("weight of the consistency", weight)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`: batch shape `(N, J)`, event shape `(D,)`."""
        return self.mean_field.latent(x)

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        latent: Any = poutine.trace(self.mean_field).get_trace(x).nodes["z"]["fn"]
        # Over groups; particles, if there are any, have the same latent posterior.
        penalty("consistency", self.weight * inconsistency(latent.mean, latent.stddev).sum(-1).mean())


def inconsistency(loc: Tensor, scale: Tensor) -> Tensor:
    """(J - 1) mean_{j ≠ k} KL( N(loc_j, scale_j²) ‖ N(loc_k, scale_k²) ), in nats; zero for one view.

    Args:
        loc, scale: `(..., J, D)`.

    Returns:
        `(...)`.
    """
    # Over all pairs the log-scales cancel: Σ_jk KL = ½ Σ_jk [ (scale_j² + (loc_j - loc_k)²) / scale_k² - 1 ].
    precision = scale.square().reciprocal()
    deviation = (loc.unsqueeze(-2) - loc.unsqueeze(-3)).square() + scale.square().unsqueeze(-2)  # (..., j, k, D)
    pairs = (deviation * precision.unsqueeze(-3) - 1).sum(-1) / 2
    return pairs.sum((-1, -2)) / loc.shape[-2]
