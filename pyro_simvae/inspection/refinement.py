"""The amortization gap: what a guide loses because one network serves all images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import transform_to

from pyro_simvae.checks import count
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.bound import MOST_VALUES
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import accepted, observed_arguments

DRAWS_A_STEP = 8
"""Of the ELBO, for a gradient."""


class Refined(NamedTuple):
    """A guide with parameters of their own for each of N groups.

    Attributes:
        elbo: of the guide as it was, nats, `(N,)`.
        refined_elbo: of the refined guide, with the same random numbers; never below.
        guide: the refined guide, for the same groups in the same order, as a guide of the same story.
    """

    elbo: Tensor
    refined_elbo: Tensor
    guide: nn.Module

    @property
    def gap(self) -> Tensor:
        """The amortization gap, nats, >= 0, `(N,)`."""
        return self.refined_elbo - self.elbo


def refine(
    pair: LedgerELBO,
    x: Tensor,
    steps: int = 300,
    num_draws: int = 200,
    learning_rate: float = 0.05,
    seed: int = 0,
    **observed: Tensor,
) -> Refined:
    """Maximizes the ELBO of each group over the parameters that the guide's distributions have there.

    Sites are refined within their own family, from where the guide puts them, by Adam, whose learning rate falls to
    zero. A site that depends on another's draw, such as content given the latents, is left as the guide has it: what is
    refined is what does not. Since the better of start and end is kept, group by group, by the same draws, the gap is
    too large by at most the error of an ELBO's difference.

    Args:
        pair: with a decoder, and without the weights of a limit.
        x: `(N, J, *event)`, some hundred groups: all are refined at once.
        steps: of Adam, 8 draws each.
        num_draws: K, of the ELBOs in the result.
        learning_rate: of the unconstrained parameters, such as loc and log scale.
        seed: of all draws.
        observed: what the pair observes besides the views, each `(N,)`.

    Raises:
        InputError: a guide that sets a site to a point, or that has no site to refine; a number that is not positive.

    Source: Cremer, Li and Duvenaud 2018, *Inference suboptimality in variational autoencoders* (arXiv:1801.03558).
    """
    count("steps", steps)
    count("num_draws", num_draws)
    with local_params(pair), evaluating(pair):
        guide = RefinedGuide(pair.guide, x, observed)
        refined = LedgerELBO(pair.model, guide)
        start = {name: leaf.detach().clone() for name, leaf in guide.free.named_parameters()}
        leaves = list(guide.free.parameters())
        optimizer = torch.optim.Adam(leaves, lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with rng.isolated(seed):
            for _ in range(steps):
                # Groups share nothing here, and Adam works number by number, so the sum maximizes each.
                loss = -refined.log_weights(x, DRAWS_A_STEP, **observed).mean(0).sum()
                for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                    leaf.grad = gradient
                optimizer.step()
                schedule.step()
        elbo, refined_elbo = (_elbo(each, x, num_draws, seed + 1, observed) for each in (pair, refined))
        better = refined_elbo > elbo
        with torch.no_grad():
            for name, leaf in guide.free.named_parameters():
                leaf.copy_(torch.where(better.view(-1, *[1] * (leaf.dim() - 1)), leaf, start[name]))
        guide.free.requires_grad_(False)
    return Refined(elbo, torch.where(better, refined_elbo, elbo), guide)


def _elbo(pair: LedgerELBO, x: Tensor, num_draws: int, seed: int, observed: Mapping[str, Tensor]) -> Tensor:
    """The ELBO of each group, `(N,)`, by K draws."""
    with rng.isolated(seed):
        return weights_of(pair, x, num_draws, **observed).mean(0)


@torch.no_grad()
def weights_of(pair: LedgerELBO, x: Tensor, num_draws: int, **observed: Tensor) -> Tensor:
    """`pair.log_weights`, `(K, N)`, some draws at a time: for guides that know all of their groups only."""
    size = max(1, MOST_VALUES // x.numel())
    return torch.cat([pair.log_weights(x, min(size, num_draws - n), **observed) for n in range(0, num_draws, size)])


class RefinedGuide(nn.Module):
    """A guide whose sites that depend on no draw have free parameters, those that the guide gives at first.

    Args:
        guide: the guide.
        x: `(N, J, *event)`.
        observed: what the guide observes besides.

    Raises:
        InputError: see `refine`.
    """

    def __init__(self, guide: nn.Module, x: Tensor, observed: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.guide = guide
        self.shape = x.shape
        first, second = (_distributions(guide, x, observed, seed) for seed in (0, 1))
        for name, fn in first.items():
            if isinstance(_inner(fn), dist.Delta):
                raise InputError(f"the guide sets {name!r} to a point: there is no ELBO to refine")
        free = {name: Free(fn) for name, fn in first.items() if _parameters(fn) and _are_same(fn, second[name])}
        if not free:
            raise InputError(
                f"the guide {type(guide).__name__} has no site to refine: one is needed that depends on no draw, and "
                "whose distribution has parameters"
            )
        self.free = nn.ModuleDict(free)

    @property
    def observes(self) -> set[str]:
        return observed_arguments(self.guide)

    def forward(self, x: Tensor, **observed: Tensor) -> None:
        """x: the `(N, J, *event)` that it was refined for."""
        if x.shape != self.shape:
            raise InputError(
                f"the guide was refined for views {tuple(self.shape)} and is given {tuple(x.shape)}: call it with the "
                "views that it was refined for"
            )
        with _Replaced(self.free):
            self.guide(x, **accepted(self.guide, observed))


class Free(nn.Module):
    """A distribution whose parameters are leaves, unconstrained. fn: where they start."""

    def __init__(self, fn: Any) -> None:
        super().__init__()
        inner = _inner(fn)
        self.family = type(inner)
        self.event_dims = len(fn.event_shape) - len(inner.event_shape)
        self.constraints = {name: inner.arg_constraints[name] for name in _parameters(fn)}
        leaves = {name: transform_to(self.constraints[name]).inv(value) for name, value in _parameters(fn).items()}
        self.leaves = nn.ParameterDict({name: nn.Parameter(leaf.detach().clone()) for name, leaf in leaves.items()})

    def forward(self) -> Any:
        """The distribution as it stands."""
        values = {name: transform_to(self.constraints[name])(leaf) for name, leaf in self.leaves.items()}
        return self.family(**values, validate_args=False).to_event(self.event_dims)


class _Replaced(Messenger):
    """Gives sites other distributions."""

    def __init__(self, free: nn.ModuleDict) -> None:
        super().__init__()
        self.free = free

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.free:
            msg["fn"] = self.free[msg["name"]]()


def _distributions(guide: nn.Module, x: Tensor, observed: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    """The distributions of the guide's latent sites, for draws of one seed."""
    with torch.no_grad(), rng.isolated(seed), poutine.trace() as traced:
        guide(x, **accepted(guide, observed))
    nodes: Any = traced.trace.nodes
    return {name: nodes[name]["fn"] for name in traced.trace.stochastic_nodes if not site_is_subsample(nodes[name])}


def _inner(fn: Any) -> Any:
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn


def _parameters(fn: Any) -> dict[str, Tensor]:
    """A distribution's parameters by name; of the ways to state a covariance, the one that stays positive definite."""
    inner = _inner(fn)
    others = ("covariance_matrix", "precision_matrix")
    return {name: getattr(inner, name) for name in inner.arg_constraints if name not in others}


def _are_same(first: Any, second: Any) -> bool:
    others = _parameters(second)
    return all(torch.allclose(value, others[name]) for name, value in _parameters(first).items())
