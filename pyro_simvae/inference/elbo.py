"""The ELBO of a (model, guide) pair, site by site."""

import functools
import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.inference.enumeration import PLATES, sum_out
from pyro_simvae.local_params import call, prepare, samples_parameters
from pyro_simvae.modalities import Modalities
from pyro_simvae.penalty import PENALTY
from pyro_simvae.sites import accepted, latent_sites, observed_arguments

Number = TypeVar("Number", Tensor, float)


class Ledger(NamedTuple):
    """One Monte Carlo sample of the ELBO of a batch, in nats, summed over the batch.

    Attributes:
        objective: what is maximized, with the weights; `()`, differentiable.
        terms: "log_p/SITE", "log_q/SITE", "penalty/NAME", without weights, means over particles; each `()`, detached.
        limit: under a limit, the terms of its loss as the literature normalizes them; each `()`, detached.
    """

    objective: Tensor
    terms: dict[str, Tensor]
    limit: dict[str, Tensor]

    @property
    def elbo(self) -> Tensor:
        """The true ELBO, without weights; under a limit, its objective. `()`, detached."""
        return sum_of_terms(self.terms)


def sum_of_terms(terms: Mapping[str, Number]) -> Number:
    """Σ log_p - Σ log_q; penalties are no part of it."""
    signs = {"log_p": 1, "log_q": -1}
    signed = [signs[kind] * value for name, value in terms.items() if (kind := name.partition("/")[0]) in signs]
    return functools.reduce(operator.add, signed)


class LedgerELBO(nn.Module):
    """The ELBO of reparametrized guides, as `pyro.infer.Trace_ELBO` has it, with its terms kept apart.

        objective = w Σ_observed log p + β Σ_latent (log p - log q) - Σ penalties of the guide

    of a single sample; of K particles the importance-weighted bound Σ_i log 1/K Σ_k exp(objective of group i, particle
    k), which is the ELBO for K = 1 and log p(x) for K → ∞. Penalties are those of `pyro_simvae.penalty`.

    At w = β = 1 it is the ELBO, equal to `Trace_ELBO` in value and gradient for the same draw. Unlike it, nothing
    here waits for the device, and the global parameter store is left alone.

    A discrete site of the model that is marked `infer={"enumerate": "parallel"}`, and that the guide does not have, is
    summed out as by `TraceEnum_ELBO`: the latents that depend on it then have the density log Σ_k p(k) Π_j p(z_j | k).

    Args:
        model, guide: the pair; both take `x` `(N, J, *event)`, or modalities.
        num_particles: K >= 1.

    Source: Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519), for K > 1.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, num_particles: int = 1) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        self.num_particles = num_particles
        prepare(model, guide)
        self.announce = samples_parameters(model) or samples_parameters(guide)
        self.enumerates = any(site["infer"].get("enumerate") for site in latent_sites(model).values())

    @property
    def observes(self) -> set[str]:
        """What of "labels" and "index" the pair asks for besides the views."""
        return observed_arguments(self.model) | observed_arguments(self.guide)

    def forward(
        self,
        x: Tensor | Modalities,
        likelihood_weight: float = 1.0,
        kl_weight: float | Tensor = 1.0,
        **observed: Tensor,
    ) -> Ledger:
        """One sample of the objective and its terms.

        Args:
            x: `(N, J, *event)`, or modalities.
            likelihood_weight, kl_weight: w and β; β may be a tensor `()`.
            observed: what the pair `observes`: `labels`, `index`, each `(N,)`.

        Raises:
            InputError: a guide site that cannot be reparametrized, or a discrete site that cannot be summed out.
        """
        signed = self._signed_sites(x, self.num_particles, observed)
        terms: dict[str, Tensor] = {}
        limit: dict[str, Tensor] = {}
        if self.num_particles == 1:
            objective = x.new_zeros(())
            for name, sign, site in signed:
                scaled, terms[name] = _log_probs(site)
                weight = self._weight(name, site, likelihood_weight, kl_weight)
                objective = _add(objective, scaled, sign, weight)
                limit |= getattr(site["fn"], "loss_terms", {})
            return Ledger(objective, _in_order(terms), limit)
        weights, penalties = x.new_zeros((self.num_particles, x.shape[0])), x.new_zeros(())
        for name, sign, site in signed:
            log_prob = _log_prob(site)
            scaled = scale_and_mask(log_prob, site["scale"], site["mask"])
            share = self.num_particles if log_prob.dim() > PLATES else 1
            terms[name] = scale_and_mask(log_prob, 1.0, site["mask"]).sum().detach() / share
            if name.startswith("penalty/"):
                penalties = penalties + scaled.sum() / share
                continue
            _check_groups(name, site)
            weight = self._weight(name, site, likelihood_weight, kl_weight)
            weights = _add(weights, scaled.sum(-1), sign, weight)
        bound = (weights.logsumexp(0) - math.log(self.num_particles)).sum()
        return Ledger(bound - penalties, _in_order(terms), limit)

    def log_weights(self, x: Tensor | Modalities, num_particles: int, **observed: Tensor) -> Tensor:
        """log p(x, latents) - log q(latents | x) of each particle and group, in nats: `(K, N)`.

        Args:
            x: `(N, J, *event)`, or modalities.
            num_particles: K.
            observed: what the pair `observes`.

        Raises:
            InputError: as the forward pass, or a site that is not one a group.
        """
        weights = x.new_zeros((num_particles, x.shape[0]))
        for name, sign, site in self._signed_sites(x, num_particles, observed):
            if not name.startswith("penalty/"):
                _check_groups(name, site)
                weights = weights.add(scale_and_mask(_log_prob(site), 1.0, site["mask"]).sum(-1), alpha=sign)
        return weights

    def latents(self, x: Tensor | Modalities, **observed: Tensor) -> tuple[set[str], set[str]]:
        """Names of the latent sites of the model, and of those of the guide, in one run, densities included."""
        found: dict[str, set[str]] = {"log_p": set(), "log_q": set()}
        for name, _, site in self._signed_sites(x, self.num_particles, observed):
            _log_prob(site)
            kind, _, site_name = name.partition("/")
            if kind in found and not site["is_observed"]:
                found[kind].add(site_name)
        return found["log_p"], found["log_q"]

    def _signed_sites(
        self, x: Tensor | Modalities, num_particles: int, observed: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """The pair's sample sites after one run, each with the name of its term and its sign."""
        plates = PLATES + (num_particles > 1)

        def particles() -> AbstractContextManager[Any]:
            return pyro.plate("particles", num_particles, dim=-plates) if num_particles > 1 else nullcontext()

        with pyro.settings.context(module_local_params=True):
            with _Sites({}) as guide, particles():
                call(self.guide, x, self.announce, **accepted(self.guide, observed))
            enumeration = poutine.enum(first_available_dim=-1 - plates) if self.enumerates else nullcontext()
            with _Sites(guide.sites) as model, enumeration, particles():
                call(self.model, x, self.announce, **accepted(self.model, observed))
        if self.enumerates:
            sum_out(model.sites, plates)
        # The guide's first: the decoder, which runs when the view's density is asked for, empties the caches.
        for kind, sign, sites in (("log_q", -1.0, guide.sites), ("log_p", 1.0, model.sites)):
            for name, site in sites.items():
                if site_is_subsample(site) or site["infer"].get("_deterministic"):
                    continue
                if kind == "log_q" and not site["fn"].has_rsample:
                    raise InputError(
                        f"the guide's site {name!r} is not reparametrized ({type(site['fn']).__name__}), so its "
                        "gradient would be wrong here: marginalize it in the story, or give it a continuous guide"
                    )
                yield f"{'penalty' if site['infer'].get(PENALTY) else kind}/{name}", sign, site

    @staticmethod
    def _weight(name: str, site: dict[str, Any], likelihood_weight: float, kl_weight: float | Tensor) -> float | Tensor:
        if name.startswith("penalty/"):
            return 1.0
        return likelihood_weight if site["is_observed"] else kl_weight


def _add(total: Tensor, value: Tensor, sign: float, weight: float | Tensor) -> Tensor:
    if isinstance(weight, Tensor):
        return torch.addcmul(total, value, weight.to(value), value=sign)
    return total.add(value, alpha=sign * weight)


def _in_order(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's terms before the guide's, as the ELBO is written."""
    return {name: terms[name] for name in sorted(terms, key=lambda name: not name.startswith("log_p/"))}


def _check_groups(name: str, site: dict[str, Any]) -> None:
    """Raises InputError for a site outside the plate "groups", whose density no group has for itself."""
    if not any(frame.dim == -PLATES for frame in site["cond_indep_stack"]):
        raise InputError(
            f"the site {name.partition('/')[2]!r} is shared by all groups, so that a group has no importance weight "
            'of its own: write it in the plate "groups", or use one particle'
        )


def _log_prob(site: dict[str, Any]) -> Tensor:
    log_prob: Tensor | None = site.get("unscaled_log_prob")  # where a discrete site was summed out
    return site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]) if log_prob is None else log_prob


def _log_probs(site: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The site's log-density with `poutine.scale`, and without it, detached; each `()`.

    A site of all groups keeps its scale: it is the batch's share of what counts once a data set.
    """
    log_prob = _log_prob(site)
    scaled = scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
    unscaled = isinstance(site["scale"], float) and site["scale"] == 1.0
    if unscaled or not any(frame.dim == -PLATES for frame in site["cond_indep_stack"]):
        return scaled, scaled.detach()
    return scaled, scale_and_mask(log_prob, 1.0, site["mask"]).sum().detach()


class _Sites(Messenger):
    """Keeps the sample sites of a run, by name; a latent site takes its value from the site in `given`.

    It is Pyro's trace and replay in one, without the graph and the bookkeeping that nothing here reads.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.given = given
        self.sites: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        given = self.given.get(msg["name"])
        if given is None or msg["is_observed"]:
            return
        if given["is_observed"]:
            raise InputError(f"the guide sets the story's latent site {msg['name']!r} by obs: let it sample the site")
        msg["value"], msg["done"] = given["value"], True

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.sites:
            raise InputError(f"two sample sites are named {msg['name']!r}: give each its own name")
        self.sites[msg["name"]] = msg.copy()
