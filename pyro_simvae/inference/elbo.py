"""The ELBO of a (model, guide) pair, site by site."""

import functools
import operator
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import pyro
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.inference.enumeration import PLATES, sum_out
from pyro_simvae.local_params import call, prepare, samples_parameters
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import accepted, latent_sites, observed_arguments

Number = TypeVar("Number", Tensor, float)


class Ledger(NamedTuple):
    """One Monte Carlo sample of the ELBO of a batch, in nats, summed over the batch.

    Attributes:
        objective: what is maximized, with the weights; `()`, differentiable.
        terms: "log_p/SITE" and "log_q/SITE", without weights; each `()`, detached.
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
    """Σ log_p - Σ log_q."""
    signed = [value if name.startswith("log_p/") else -value for name, value in terms.items()]
    return functools.reduce(operator.add, signed)


class LedgerELBO(nn.Module):
    """The single-sample ELBO of reparametrized guides, as `pyro.infer.Trace_ELBO` has it, with its terms kept apart.

        objective = w Σ_observed log p + β Σ_latent (log p - log q)

    At w = β = 1 it is the ELBO, equal to `Trace_ELBO` in value and gradient for the same draw. Unlike it, nothing
    here waits for the device, and the global parameter store is left alone.

    A discrete site of the model that is marked `infer={"enumerate": "parallel"}`, and that the guide does not have, is
    summed out as by `TraceEnum_ELBO`: the latents that depend on it then have the density log Σ_k p(k) Π_j p(z_j | k).

    Args:
        model, guide: the pair; both take `x` `(N, J, *event)`, or modalities.
    """

    def __init__(self, model: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        prepare(model, guide)
        self.announce = samples_parameters(model) or samples_parameters(guide)
        self.enumerates = any(site["infer"].get("enumerate") for site in latent_sites(model).values())

    @property
    def observes(self) -> set[str]:
        """What of "labels" and "index" the pair asks for besides the views."""
        return observed_arguments(self.model) | observed_arguments(self.guide)

    def forward(
        self, x: Tensor | Modalities, likelihood_weight: float = 1.0, kl_weight: float = 1.0, **observed: Tensor
    ) -> Ledger:
        """One sample of the objective and its terms.

        Args:
            x: `(N, J, *event)`, or modalities.
            likelihood_weight, kl_weight: w and β.
            observed: what the pair `observes`: `labels`, `index`, each `(N,)`.

        Raises:
            InputError: a guide site that cannot be reparametrized, or a discrete site that cannot be summed out.
        """
        with pyro.settings.context(module_local_params=True):
            with _Sites({}) as guide:
                call(self.guide, x, self.announce, **accepted(self.guide, observed))
            with _Sites(guide.sites) as model, self._enumeration():
                call(self.model, x, self.announce, **accepted(self.model, observed))
        if self.enumerates:
            sum_out(model.sites)
        objective = x.new_zeros(())
        terms: dict[str, dict[str, Tensor]] = {"log_p": {}, "log_q": {}}
        limit: dict[str, Tensor] = {}
        # The guide's first: the decoder, which runs when the view's density is asked for, empties the caches.
        for prefix, sign, sites in (("log_q", -1.0, guide.sites), ("log_p", 1.0, model.sites)):
            for name, site in sites.items():
                if site_is_subsample(site) or site["infer"].get("_deterministic"):
                    continue
                if prefix == "log_q" and not site["fn"].has_rsample:
                    raise InputError(
                        f"the guide's site {name!r} is not reparametrized ({type(site['fn']).__name__}), so its "
                        "gradient would be wrong here: marginalize it in the story, or give it a continuous guide"
                    )
                weight = likelihood_weight if site["is_observed"] else kl_weight
                scaled, log_prob = _log_probs(site)
                objective = objective.add(scaled, alpha=sign * weight)
                terms[prefix][f"{prefix}/{name}"] = log_prob
                limit |= getattr(site["fn"], "loss_terms", {})
        return Ledger(objective, terms["log_p"] | terms["log_q"], limit)

    def _enumeration(self) -> AbstractContextManager[Any]:
        return poutine.enum(first_available_dim=-1 - PLATES) if self.enumerates else nullcontext()


def _log_probs(site: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The site's log-density with `poutine.scale`, and without it, detached; each `()`."""
    log_prob = site.get("unscaled_log_prob")  # where a discrete site was summed out
    if log_prob is None:
        log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    scaled = scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
    if isinstance(site["scale"], float) and site["scale"] == 1.0:
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
