"""Summing discrete sites out of a program, exactly."""

from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask

from pyro_simvae.errors import InputError

PLATES = 2
"""Dimensions of "groups" and "views"; enumeration puts the values of a discrete site to their left."""


def sum_out(trace: poutine.Trace) -> None:
    """Turns what depends on an enumerated site k into one density, log Σ_k p(k) Π_j p(z_j | k), and drops k.

    The density becomes that of the first latent site that depends on k; that of the others becomes zero.

    Args:
        trace: of a model under `poutine.enum`.

    Raises:
        InputError: a discrete site that is not one a group, or on which the view depends directly.
    """
    nodes: dict[str, Any] = trace.nodes  # Pyro's own type leaves every field optional
    sites = {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample" and not site["infer"].get("_deterministic")
    }
    discrete = [name for name, site in sites.items() if site["infer"].get("_enumerate_dim") is not None]
    if not discrete:
        return
    trace.compute_log_prob(site_filter=lambda name, site: name in sites)
    reached = {name: site for name, site in sites.items() if site["log_prob"].dim() > PLATES}
    per_view = any(frame.dim == -1 for name in discrete for frame in sites[name]["cond_indep_stack"])
    if per_view or any(site["is_observed"] for site in reached.values()):
        raise InputError(
            f"the story's discrete site {discrete[0]!r} can be summed out only if it is one a group and reaches the "
            'view through latents: write it in the plate "groups" only, or fit with Pyro\'s TraceEnum_ELBO'
        )
    # The views of a group share k, so they are joined before the sum. Masks belong inside it, scales outside.
    joined = [
        scale_and_mask(site["unscaled_log_prob"], 1.0, site["mask"]).sum(-1, keepdim=True) for site in reached.values()
    ]
    density = torch.stack(torch.broadcast_tensors(*joined)).sum(0).flatten(0, -1 - PLATES).logsumexp(0)  # (N, 1)
    for name, site in reached.items():
        if name in discrete:
            trace.remove_node(name)
            continue
        site |= {"mask": None, "unscaled_log_prob": density, "log_prob": scale_and_mask(density, site["scale"])}
        site["log_prob_sum"] = site["log_prob"].sum()
        density = torch.zeros_like(density)
