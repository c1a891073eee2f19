"""What a fitted story makes of itself: draws from its prior, and reconstructions."""

from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import is_view

Arrays = dict[str, np.ndarray]


def draw_prior(model: nn.Module, num_groups: int, num_views: int) -> Arrays:
    """One draw from the story's prior.

    Returns:
        "x" `(N, J, *event)`, the mean of each view given its latent, and every latent site by name. Where modalities
        have sites of their own, "x_NAME" `(N, 1, *event)` instead.

    Raises:
        InputError: flat content, which is improper.
    """
    with local_params(model), torch.no_grad(), evaluating(model):
        trace = poutine.trace(model).get_trace(num_groups=num_groups, num_views=num_views)
    sites: dict[str, Any] = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    plates = {frame.name for site in sites.values() for frame in site["cond_indep_stack"]}
    draws = {
        name: site["fn"].mean if is_view(name) else site["value"] for name, site in sites.items() if name not in plates
    }
    return {name: value.cpu().numpy() for name, value in draws.items()}


def reconstruct(pair: LedgerELBO, x: Tensor | Modalities, site: str = "x") -> np.ndarray:
    """The mean of p(x | z) at one draw of z from the guide, `(N, J, *event)`; of a modality, `(N, 1, *event)`."""
    with local_params(pair), torch.no_grad(), evaluating(pair):
        guide_trace = poutine.trace(pair.guide).get_trace(x)
        trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(x)
        view: Any = trace.nodes[site]["fn"]
        return view.mean.cpu().numpy()


def decoder_is_trained(pair: LedgerELBO) -> bool:
    """Whether the pair's objective holds the likelihood: a limit at t = 1 does not."""
    limit = getattr(pair.model, "limit", None)
    return limit is None or limit.t < 1
