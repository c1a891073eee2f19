"""How probable test views are under the story: the importance-weighted bound of their density.

It is of the story itself, without the weights that a fit or a limit puts on its terms.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.distributions import constraints
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.conjugate import is_flat
from pyro_simvae.data import Split, Views
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import accepted

NUM_PARTICLES = 64
"""K of the bound."""

MOST_GROUPS = 2_000
"""Test groups that the bound is a mean over, evenly spaced: their spread is reported, and is well below it."""

MOST_VALUES = 2**20
"""Numbers that the decoder gives at once."""


def importance_weights(pair: LedgerELBO, x: Tensor, num_particles: int = NUM_PARTICLES, **observed: Tensor) -> Tensor:
    """log p(x, latents) - log q(latents | x) of each particle and group, in nats; `(K, N)`, on the CPU.

    Memory does not depend on N and K but for the result.

    Args:
        pair: see `own_densities`.
        x: `(N, J, *event)`.
        num_particles: K. By default 64: what is missing then is less than the standard error over groups. On valid
            items of the 8x8 digits, J = 2, D = 16, 30 epochs, the bound of a VAE gains 2.8 nats a group from 1 to 64
            particles and 0.5 more up to 4096, that of SimVAE 6.3 and 2.0; the standard errors are 2.7 and 2.8.
        observed: what the pair observes, each `(N,)`.
    """
    columns = []
    # Batches of nearly equal size, since a limit's geometry may look at the whole batch.
    for rows in torch.arange(len(x)).tensor_split(min(len(x), -(-x.numel() // MOST_VALUES))):
        part, given = x[rows], {name: values[rows] for name, values in observed.items()}
        at_once = max(1, MOST_VALUES // part.numel())
        sizes = [min(at_once, num_particles - done) for done in range(0, num_particles, at_once)]
        columns.append(torch.cat([pair.log_weights(part, size, **given).cpu() for size in sizes]))
    return torch.cat(columns, dim=1)


def importance_bound(log_weights: Tensor) -> Tensor:
    """log 1/K Σ_k w_k of each group, a lower bound of log p(x_1..J) in expectation: `(N,)` of `(K, N)`, nats.

    Source: Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519), equation 8.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def bound_scores(log_weights: Tensor, num_views: int, num_values: int, offset: float) -> dict[str, float]:
    """The bound and what can be said of it.

    Args:
        log_weights: `(K, N)`.
        num_views: J.
        num_values: in a view.
        offset: bits to add to those of a number: 8 turns the density of numbers in [0, 1] into a probability of one of
            256 levels, as far as it is constant within a level (no noise was added to make it so), and as far as
            an augmentation that interpolates leaves levels.

    Returns:
        "bound": mean over groups, nats a group; "bound_se": its standard error over groups; "bound_view": nats a
        view; "bound_elbo": the mean of the same log-weights (K = 1), never above; "bits_per_dim": -bound_view in
        bits a number, plus the offset: lower is better; "ess": mean effective sample size (Σw)² / Σw² over K, in
        [1/K, 1].
    """
    weights = log_weights.double()
    bounds = importance_bound(weights)
    sizes = (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()
    bound = float(bounds.mean())
    return {
        "bound": bound,
        "bound_se": float(bounds.std(correction=0)) / math.sqrt(max(1, len(bounds) - 1)),
        "bound_view": bound / num_views,
        "bound_elbo": float(weights.mean()),
        "bits_per_dim": offset - bound / (num_views * num_values * math.log(2)),
        "ess": float(sizes.mean()) / len(weights),
    }


def why_no_bound(pair: LedgerELBO, x: Tensor, **observed: Tensor) -> str | None:
    """Why the weights of a pair would bound no density, or None. x: a few groups, `(N, J, *event)`."""
    if is_flat(getattr(pair.model, "content_scale", 1.0)):
        return "flat content is improper, the views have no normalized density"
    with local_params(pair):
        nodes: Any = poutine.trace(pair.guide).get_trace(x, **accepted(pair.guide, observed)).nodes
    for name, site in nodes.items():
        if site["type"] != "sample" or site["is_observed"] or site_is_subsample(site):
            continue
        if isinstance(site["fn"], dist.Delta):
            return f"the guide sets {name!r} to a point, which has no density"
        if not site["cond_indep_stack"]:
            return f"all groups share {name!r}, so that a group has no bound of its own"
    return None


def is_continuous(pair: LedgerELBO, x: Tensor, **observed: Tensor) -> bool:
    """Whether p(x | z) is a density, not a probability. x: a few groups, `(N, J, *event)`."""
    view = view_at_loc(pair, x, observed)
    return not getattr(view, "distribution", view).support.is_discrete


def bound_of(pair: LedgerELBO, split: Split, views: Views, num_views: int) -> tuple[dict[str, float], list[str]]:
    """The scores of the bound for groups of evenly spaced items, and what was left out."""
    index = torch.linspace(0, len(split) - 1, min(MOST_GROUPS, len(split))).long()
    (batch,) = split.batches(index, len(index), num_views)
    x, _ = views(batch.images, num_views)
    observed = observed_of(pair, split, index, x.device)
    few = {name: values[:2] for name, values in observed.items()}
    if reason := why_no_bound(pair, x[:2], **few):
        return {}, [f"bound: {reason}"]
    levels = batch.images.dtype == torch.uint8 and views.augmentation.threshold is None
    offset = 8.0 if levels and is_continuous(pair, x[:2], **few) else 0.0
    return bound_scores(importance_weights(pair, x, NUM_PARTICLES, **observed), num_views, x[0, 0].numel(), offset), []


def observed_of(pair: LedgerELBO, split: Split, index: Tensor, device: torch.device) -> dict[str, Tensor]:
    """What the pair observes of the items at `index` `(n,)` besides their views."""
    return {} if "labels" not in pair.observes or split.labels is None else {"labels": split.labels[index].to(device)}


def loc_of(fn: Any) -> Tensor:
    """The mean of a distribution; of one that is made by a map, where the map takes the mean of its base."""
    loc: Tensor
    if isinstance(fn, torch.distributions.TransformedDistribution):
        loc = loc_of(fn.base_dist)
        for transform in fn.transforms:
            loc = transform(loc)
        return loc
    loc = fn.mean
    return loc


class _AtLoc(Messenger):
    """Sets every latent site of a guide to its loc."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        loc = loc_of(msg["fn"])
        # The mean of directions lies inside their sphere.
        msg["value"] = F.normalize(loc, dim=-1) if msg["fn"].support is constraints.sphere else loc
        msg["done"] = True


def view_at_loc(pair: LedgerELBO, x: Tensor, observed: Mapping[str, Tensor]) -> Any:
    """p(x | z) at the guide's loc, batch shape `(N, J)`."""
    with local_params(pair):
        with _AtLoc():
            guide = poutine.trace(pair.guide).get_trace(x, **accepted(pair.guide, observed))
        story = poutine.replay(pair.model, trace=guide)
        return poutine.trace(story).get_trace(x, **accepted(pair.model, observed)).nodes["x"]["fn"]
