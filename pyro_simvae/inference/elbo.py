"""The ELBO of a (model, guide) pair, site by site."""

from typing import Any, NamedTuple

import pyro
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.inference.enumeration import PLATES, sum_out
from pyro_simvae.local_params import prepare
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import accepted, observed_arguments


class Ledger(NamedTuple):
    """One Monte Carlo sample of the ELBO of a batch, in nats, summed over the batch.

    Attributes:
        objective: what is maximized, with the weights; `()`, differentiable.
        elbo: the true ELBO, without weights; `()`, detached.
        terms: "log_p/SITE" and "log_q/SITE", without weights; each `()`, detached.
            elbo = Σ log_p - Σ log_q.
        limit: under a limit, the terms of its loss as the literature normalizes them; each `()`, detached. What is
            called ELBO above is then the limit's objective.
    """

    objective: Tensor
    elbo: Tensor
    terms: dict[str, Tensor]
    limit: dict[str, Tensor]


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
            guide_trace = poutine.trace(self.guide).get_trace(x, **accepted(self.guide, observed))
            model = poutine.enum(poutine.replay(self.model, trace=guide_trace), first_available_dim=-1 - PLATES)
            model_trace = poutine.trace(model).get_trace(x, **accepted(self.model, observed))
        objective, elbo = x.new_zeros(()), x.new_zeros(())
        terms: dict[str, Tensor] = {}
        limit: dict[str, Tensor] = {}
        for prefix, sign, trace in (("log_p", 1.0, model_trace), ("log_q", -1.0, guide_trace)):
            trace = prune_subsample_sites(trace)
            trace.compute_log_prob()
            if prefix == "log_p":
                sum_out(trace)
            site: Any  # Pyro's own type leaves every field optional
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or site["infer"].get("_deterministic"):
                    continue
                if prefix == "log_q" and not site["fn"].has_rsample:
                    raise InputError(
                        f"the guide's site {name!r} is not reparametrized ({type(site['fn']).__name__}), so its "
                        "gradient would be wrong here: marginalize it in the story, or give it a continuous guide"
                    )
                weight = likelihood_weight if site["is_observed"] else kl_weight
                objective = objective + sign * weight * site["log_prob_sum"]
                log_prob = _unweighted(site)
                elbo = elbo + sign * log_prob
                terms[f"{prefix}/{name}"] = log_prob
                limit |= getattr(site["fn"], "loss_terms", {})
        return Ledger(objective, elbo, terms, limit)


def _unweighted(site: dict[str, Any]) -> Tensor:
    """The site's log-density without `poutine.scale`, detached."""
    if isinstance(site["scale"], float) and site["scale"] == 1.0:
        return site["log_prob_sum"].detach()
    return scale_and_mask(site["unscaled_log_prob"], 1.0, site["mask"]).sum().detach()
