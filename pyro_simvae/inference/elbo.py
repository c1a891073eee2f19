"""The ELBO of a (model, guide) pair, site by site."""

from typing import Any, NamedTuple

import pyro
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.local_params import prepare
from pyro_simvae.modalities import Modalities


class Ledger(NamedTuple):
    """One Monte Carlo sample of the ELBO of a batch, in nats, summed over the batch.

    Attributes:
        objective: what is maximized, with the weights; `()`, differentiable.
        elbo: the true ELBO, without weights; `()`, detached.
        terms: "log_p/SITE" and "log_q/SITE", without weights; each `()`, detached.
            elbo = Σ log_p - Σ log_q.
    """

    objective: Tensor
    elbo: Tensor
    terms: dict[str, Tensor]


class LedgerELBO(nn.Module):
    """The single-sample ELBO of reparametrized guides, as `pyro.infer.Trace_ELBO` has it, with its terms kept apart.

        objective = w Σ_observed log p + β Σ_latent (log p - log q)

    At w = β = 1 it is the ELBO, equal to `Trace_ELBO` in value and gradient for the same draw. Unlike it, nothing
    here waits for the device, and the global parameter store is left alone.

    Args:
        model, guide: the pair; both take `x` `(N, J, *event)`, or modalities.
    """

    def __init__(self, model: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        prepare(model, guide)

    def forward(self, x: Tensor | Modalities, likelihood_weight: float = 1.0, kl_weight: float = 1.0) -> Ledger:
        """x: `(N, J, *event)`, or modalities. Raises InputError at a guide site that cannot be reparametrized."""
        with pyro.settings.context(module_local_params=True):
            guide_trace = poutine.trace(self.guide).get_trace(x)
            model_trace = poutine.trace(poutine.replay(self.model, trace=guide_trace)).get_trace(x)
        objective, elbo = x.new_zeros(()), x.new_zeros(())
        terms = {}
        for prefix, sign, trace in (("log_p", 1.0, model_trace), ("log_q", -1.0, guide_trace)):
            trace = prune_subsample_sites(trace)
            trace.compute_log_prob()
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
        return Ledger(objective, elbo, terms)


def _unweighted(site: dict[str, Any]) -> Tensor:
    """The site's log-density without `poutine.scale`, detached."""
    if isinstance(site["scale"], float) and site["scale"] == 1.0:
        return site["log_prob_sum"].detach()
    return scale_and_mask(site["unscaled_log_prob"], 1.0, site["mask"]).sum().detach()
