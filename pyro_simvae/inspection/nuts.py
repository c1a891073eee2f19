"""The posterior of one group without a guide: NUTS on the story's own density, and its evidence by bridge sampling."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from arviz_stats.base.array import array_stats
from pyro.distributions import constraints
from pyro.infer import MCMC, NUTS
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, biject_to
from torch.nn import functional as F

from pyro_simvae.checks import count
from pyro_simvae.distributions import LOG_2PI
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.importance import LogJoint, draw_latents
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import latent_sites

LARGEST_R_HAT = 1.05
"""Above it, chains disagree on where the posterior is."""


class NutsDraws(NamedTuple):
    """Draws of the posterior of one group, C chains of S.

    Attributes:
        samples: by site, `(C, S, 1, J or 1, *event)`.
        unconstrained: the same as vectors of R^M, `(C, S, M)`.
        diverging: which transitions diverged, `(C, S)` bool.
        steps: leapfrog steps of each transition, `(C, S)`.
        max_tree_depth: transitions were stopped at 2^max_tree_depth - 1 steps.
        r_hat: by site, the largest of its numbers.
        ess: by site, the smallest bulk effective sample size of its numbers.
    """

    samples: dict[str, Tensor]
    unconstrained: Tensor
    diverging: Tensor
    steps: Tensor
    max_tree_depth: int
    r_hat: dict[str, float]
    ess: dict[str, float]

    @property
    def at_max_tree_depth(self) -> int:
        """Transitions that were stopped before they turned: they are valid, and short."""
        return int((self.steps >= 2**self.max_tree_depth - 1).sum())

    @property
    def trouble(self) -> str | None:
        """Why the draws are not to be trusted, in a line, or None."""
        found = []
        if diverged := int(self.diverging.sum()):
            found.append(f"{diverged} of {self.diverging.numel()} transitions diverged, where NUTS cannot follow")
        name, worst = max(self.r_hat.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])
        if not worst <= LARGEST_R_HAT:
            found.append(f"r_hat of {name} is {worst:.2f}, the chains disagree")
        return "; ".join(found) or None


def sample_posterior(
    pair: LedgerELBO,
    x: Tensor,
    num_draws: int = 500,
    warmup: int = 300,
    chains: int = 2,
    max_tree_depth: int = 10,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
    **observed: Tensor,
) -> NutsDraws:
    """Draws from p(latents | x) by NUTS, with the decoder; chains start at draws of the guide.

    The story's density is that of its program as the ELBO reads it, with discrete sites summed out. Latents are sampled
    in unconstrained coordinates. Directions c on the sphere are u / |u|, u in R^D, with |u| as under Normal(0, I).

    Args:
        pair: with a decoder, and without the weights of a limit.
        x: the views of one group, `(1, J, *event)`.
        num_draws: S, of each chain, at least 4.
        warmup: transitions before, which set step size and diagonal mass matrix.
        chains: C, two or more: r_hat compares them.
        max_tree_depth: of a transition's tree of leapfrog steps.
        seed: of all draws.
        progress: called after each transition.
        observed: what the pair observes besides the views, each `(1,)`.

    Raises:
        InputError: several groups, too few chains or draws, or a support without coordinates.

    Source: Hoffman and Gelman 2014 (arXiv:1111.4246); Vehtari et al. 2021 (arXiv:1903.08008) for r_hat and ess.
    """
    if len(x) != 1:
        raise InputError(f"NUTS samples one group, and {len(x)} are given: call it for each, x[i:i + 1]")
    count("num_draws", num_draws, least=4)
    count("warmup", warmup)
    count("chains", chains, least=2)
    with local_params(pair), evaluating(pair), rng.isolated(seed):
        starts = draw_latents(pair, x, chains, observed)
        target = _Target(pair.model, x, starts, observed)
        vectors = target.vectors(starts)
        runs = [_run_chain(target, vectors[c], num_draws, warmup, max_tree_depth, progress) for c in range(chains)]
    unconstrained, diverging, steps = (torch.stack(part) for part in zip(*runs, strict=True))
    with torch.no_grad():
        latents, _ = target.latents(unconstrained.flatten(0, 1))
    samples = {name: value.unflatten(0, (chains, num_draws)) for name, value in latents.items()}
    by_site = {name: value.double().flatten(2).cpu().numpy() for name, value in samples.items()}
    with np.errstate(invalid="ignore"):  # a chain that never moves has no r_hat: NaN, which is trouble
        r_hat = {name: float(np.max(array_stats.rhat(v, chain_axis=0, draw_axis=1))) for name, v in by_site.items()}
        ess = {name: float(np.min(array_stats.ess(v, chain_axis=0, draw_axis=1))) for name, v in by_site.items()}
    return NutsDraws(samples, unconstrained, diverging, steps, max_tree_depth, r_hat, ess)


def _run_chain(
    target: "_Target",
    start: Tensor,
    num_draws: int,
    warmup: int,
    max_tree_depth: int,
    progress: Callable[[], None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws `(S, M)`, which of them diverged `(S,)`, and their leapfrog steps `(S,)`."""
    steps = [0]

    def potential(params: dict[str, Tensor]) -> Tensor:
        steps[-1] += 1  # Pyro keeps no count of its own
        return -target.log_density(params["latents"].unsqueeze(0)).squeeze(0)

    def after(*_: Any) -> None:
        steps.append(0)
        if progress is not None:
            progress()

    sampler = MCMC(
        NUTS(potential_fn=potential, max_tree_depth=max_tree_depth),
        num_draws,
        warmup,
        initial_params={"latents": start},
        hook_fn=after,
        disable_progbar=True,
    )
    sampler.run()
    diverging = torch.zeros(num_draws, dtype=torch.bool)
    diverging[sampler.diagnostics()["divergences"]["chain 0"]] = True
    return sampler.get_samples()["latents"], diverging, torch.tensor(steps[warmup:-1])


class Evidence(NamedTuple):
    """An estimate of log p(x_1..J).

    Attributes:
        log_evidence: in nats.
        relative_error: of p(x), so about the standard error of its logarithm.
    """

    log_evidence: float
    relative_error: float


def log_evidence(pair: LedgerELBO, x: Tensor, draws: NutsDraws, seed: int = 0, **observed: Tensor) -> Evidence:
    """log p(x_1..J) of one group by bridge sampling between its posterior and a Normal.

        p(x) = E_g[ h p(x, θ) ] / E_post[ h g(θ) ],   h ∝ 1 / ( ½ p(x, θ) / p(x) + ½ g(θ) )

    is iterated from p(x) inside h to p(x). g is a Normal in unconstrained coordinates, fitted to the first half of each
    chain, and the second half is what the bridge rests on, with as many draws of g. The approximation gap of a guide's
    family is this less the ELBO of the refined guide. The error is not to be trusted where `draws.trouble` is not None.

    Args:
        pair, x, observed: as the draws were made with.
        draws: of `sample_posterior`.
        seed: of the draws of g.

    Source: Meng and Wong 1996, *Simulating ratios of normalizing constants via a simple identity*; Gronau et al. 2017
        (arXiv:1703.05984), equation 13, and appendix A for the error.
    """
    half = draws.unconstrained.shape[1] // 2
    fitted, kept = draws.unconstrained[:, :half].flatten(0, 1), draws.unconstrained[:, half:]
    with local_params(pair), evaluating(pair), rng.isolated(seed), torch.no_grad():
        target = _Target(pair.model, x, {name: value[:, 0] for name, value in draws.samples.items()}, observed)
        # Shrunk, so that it is a covariance even where there are fewer draws than dimensions; the rest is for chains
        # that all but stood.
        normal = LedoitWolf().fit(fitted.double().cpu().numpy())
        rest = max(1e-6 * float(np.diag(normal.covariance_).mean()), 1e-12) * np.eye(len(normal.covariance_))
        loc, covariance = (
            torch.from_numpy(part).to(fitted.device) for part in (normal.location_, normal.covariance_ + rest)
        )
        proposal = MultivariateNormal(loc, covariance)
        proposed = proposal.sample((kept[..., 0].numel(),)).to(fitted.dtype)
        at_post, at_normal = (
            (target.log_density(points).double() - proposal.log_prob(points.double())).cpu().numpy()
            for points in (kept.flatten(0, 1), proposed)
        )
    return _bridge(at_post.reshape(kept.shape[:2]), at_normal)


def _bridge(at_post: np.ndarray, at_normal: np.ndarray) -> Evidence:
    """The estimate from log p(x, θ) - log g(θ) at draws of the posterior `(C, S)` and at as many of g `(C S,)`."""

    def mean_log(values: np.ndarray) -> float:
        return float(logsumexp(values) - math.log(values.size))

    found, before = float(np.median(at_post)), math.inf
    while abs(found - before) > 1e-9:  # a contraction (Meng and Wong 1996, section 3)
        before = found
        numerator = mean_log(at_normal - np.logaddexp(at_normal, before))
        found = numerator - mean_log(-np.logaddexp(at_post, before))
    shares = np.exp(at_normal - np.logaddexp(at_normal, found))
    others = np.exp(found - np.logaddexp(at_post, found))
    independent = float(array_stats.ess(others, chain_axis=0, draw_axis=1, method="mean"))
    squared = shares.var() / shares.mean() ** 2 / shares.size + others.var() / others.mean() ** 2 / independent
    return Evidence(found, math.sqrt(squared))


class _Target:
    """log p(x, latents) of one group as a function of vectors of R^M.

    Args:
        model: the story.
        x: `(1, J, *event)`.
        latents: some, by site, for their shapes: `(K, 1, J or 1, *event)`.
        observed: what the story observes besides.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, latents: Mapping[str, Tensor], observed: Mapping[str, Tensor]
    ) -> None:
        self.joint = LogJoint(model)
        self.x, self.observed = x, observed
        sites = latent_sites(model)
        self.coordinates = {name: _coordinates(name, sites[name]["fn"].support) for name in latents}
        self.shapes = {name: self.coordinates[name].inv(value).shape[1:] for name, value in latents.items()}

    def vectors(self, latents: Mapping[str, Tensor]) -> Tensor:
        """`(K, M)`, of latents by site `(K, 1, J or 1, *event)`."""
        return torch.cat([self.coordinates[name].inv(value).flatten(1) for name, value in latents.items()], 1)

    def latents(self, vectors: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Latents by site, and the log-volume that a change of coordinates costs, `(K,)`; of vectors `(K, M)`."""
        parts = vectors.split([shape.numel() for shape in self.shapes.values()], 1)
        found, volume = {}, vectors.new_zeros(len(vectors))
        for (name, shape), part in zip(self.shapes.items(), parts, strict=True):
            u = part.unflatten(1, shape)
            found[name] = self.coordinates[name](u)
            volume = volume + self.coordinates[name].log_abs_det_jacobian(u, found[name]).flatten(1).sum(1)
        return found, volume

    def log_density(self, vectors: Tensor) -> Tensor:
        """Up to the evidence, the posterior's log-density at vectors `(K, M)`: `(K,)`."""
        latents, volume = self.latents(vectors)
        return self.joint(self.x, latents, **self.observed).squeeze(1) + volume


class _Direction:
    """u in R^D for the direction u / |u|: a density p of directions becomes area p(u / |u|) Normal(u; 0, I).

    Its marginal over lengths is p again. The area is that of the unit sphere.
    """

    def __call__(self, u: Tensor) -> Tensor:
        return F.normalize(u, dim=-1)

    def inv(self, direction: Tensor) -> Tensor:
        return direction * math.sqrt(direction.shape[-1])

    def log_abs_det_jacobian(self, u: Tensor, direction: Tensor) -> Tensor:
        dim = u.shape[-1]
        log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
        return log_area - (u.square().sum(-1) + dim * LOG_2PI) / 2


def _coordinates(name: str, support: Any) -> Any:
    if support is constraints.sphere:
        return _Direction()
    try:
        return biject_to(support)
    except NotImplementedError as error:
        raise InputError(
            f"the support of {name!r}, {support}, has no unconstrained coordinates for NUTS: leave NUTS out"
        ) from error
