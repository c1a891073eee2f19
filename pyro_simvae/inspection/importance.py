"""What the importance weights of a guide say of it: Pareto k-hat, the gap of the bounds, the effective sample size."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pyro
import torch
from arviz_stats.base.array import array_stats
from pyro import distributions as dist
from pyro import poutine
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.bound import importance_bound
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import accepted, latent_sites

FEWEST_DRAWS = 25
"""Of which a fifth is the tail, and a tail has 5 or more."""

NO_TAIL = 0.1
"""Log-weights of a group that lie within so many nats differ by rounding, or as good as that."""


def pareto_k(log_weights: Tensor) -> Tensor:
    """k-hat, the shape of the generalized Pareto distribution that fits the largest weights of each group.

    Weights have 1/k finite moments. Below 0.5 importance sampling from the guide is sound; above 0.7 the guide misses
    the posterior, and neither its draws nor bounds by them can be trusted. Weights that are all but constant, as those
    of an exact guide, have no tail: k is -inf. Where one is NaN or +inf, k is +inf.

    k-hat is of the draws at hand: k itself is 0 for a Normal that is moved however far, since the weights are
    lognormal, and yet few draws tell as little as if they had no moments. And it is blind to modes that no draw finds.

    Args:
        log_weights: log p(x, latents) - log q(latents | x), `(K, N)`, K >= 25.

    Returns:
        `(N,)`, float64.

    Raises:
        InputError: fewer than 25 draws.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry 2024 (arXiv:1507.02646); Yao, Vehtari, Simpson and Gelman 2018
        (arXiv:1802.02538) for guides.
    """
    if len(log_weights) < FEWEST_DRAWS:
        raise InputError(f"{len(log_weights)} draws have no tail to look at: give {FEWEST_DRAWS} or more")
    weights = log_weights.detach().double().cpu()
    largest, smallest = weights.amax(0), weights.amin(0)  # NaN where one is
    found = torch.full_like(largest, torch.inf)
    found[largest - smallest < NO_TAIL] = -torch.inf
    some = largest.isfinite() & ~(largest - smallest < NO_TAIL)
    if some.any():
        # The library takes a log-likelihood, whose negative it smooths.
        _, k = array_stats.psislw(-weights[:, some].T.numpy(), axis=-1)
        found[some] = torch.from_numpy(k)
    return found


def iwae_gap(log_weights: Tensor) -> Tensor:
    """What K draws gain over the ELBO: log 1/K Σ_k w_k - 1/K Σ_k log w_k >= 0, nats; `(N,)` of `(K, N)`.

    It rises with K to KL( q(latents | x) ‖ p(latents | x) ), and is zero for the exact guide.

    Source: Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519); Domke and Sheldon 2018 (arXiv:1808.09034).
    """
    return importance_bound(log_weights) - log_weights.mean(0)


def effective_share(log_weights: Tensor) -> Tensor:
    """Effective sample size by draws, (Σ_k w_k)² / (K Σ_k w_k²) in [1/K, 1]: `(N,)` of `(K, N)`."""
    size = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return size.exp() / len(log_weights)


def draw_latents(pair: LedgerELBO, x: Tensor, num_draws: int, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Draws by the guide of the story's latents, by site: `(K, N, J or 1, *event)`, detached.

    Args:
        pair: its guide broadcasts over draws, as for `LedgerELBO.log_weights`.
        x: `(N, J, *event)`.
        num_draws: K.
        observed: what the pair observes besides the views.
    """
    particles: Any = pyro.plate("particles", num_draws, dim=-3)
    with torch.no_grad(), local_params(pair), poutine.trace() as traced, particles:
        pair.guide(x, **accepted(pair.guide, observed))
    nodes: Any = traced.trace.nodes
    return {name: nodes[name]["value"] for name in latent_sites(pair.model) if name in nodes}


class LogJoint:
    """log p(x, latents) of a story, as a function of its latents; discrete sites are summed out.

    Args:
        model: the story.
    """

    def __init__(self, model: nn.Module) -> None:
        self._given = _Given(model)
        self._pair = LedgerELBO(model, self._given)

    def __call__(self, x: Tensor, latents: Mapping[str, Tensor], **observed: Tensor) -> Tensor:
        """In nats, `(K, N)`.

        Args:
            x: `(N, J, *event)`.
            latents: by site, `(K, N, J or 1, *event)`.
            observed: what the story observes besides the views.
        """
        num_draws = len(next(iter(latents.values())))
        # A single particle has no dimension of its own.
        self._given.values = {name: value if num_draws > 1 else value[0] for name, value in latents.items()}
        return self._pair.log_weights(x, num_draws, **observed)


class _Given(nn.Module):
    """A guide that sets latents to values, with log q = 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.values: dict[str, Tensor] = {}
        self._sites = latent_sites(model)

    def forward(self, x: Tensor) -> None:
        sites = {name: self._sites[name] for name in self.values}
        frames = {frame.name: frame for site in sites.values() for frame in site["cond_indep_stack"]}
        plates: Any = {name: pyro.plate(name, x.shape[2 + frame.dim], dim=frame.dim) for name, frame in frames.items()}
        for name, site in sites.items():
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    stack.enter_context(plates[frame.name])
                pyro.sample(name, dist.Delta(self.values[name], event_dim=len(site["fn"].event_shape)))
