"""Summing discrete sites out of a program, exactly."""

from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample

from pyro_simvae.errors import InputError

PLATES = 2
"""Dimensions of "groups" and "views"; enumeration puts the values of a discrete site to their left."""


def sum_out(sites: dict[str, Any], plates: int = PLATES) -> None:
    """Turns what depends on an enumerated site k into one density, log Σ_k p(k) Π_j p(z_j | k), and drops k.

    The density becomes that of the first latent site that depends on k; that of the others becomes zero.

    Args:
        sites: the sample sites of a model under `poutine.enum`, by name; changed in place.
        plates: dimensions of plates, those of particles included.

    Raises:
        InputError: a discrete site that is not one a group, or on which the view depends directly.
    """
    discrete = [name for name, site in sites.items() if site["infer"].get("_enumerate_dim") is not None]
    if not discrete:
        return
    densities = {
        name: site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
        for name, site in sites.items()
        if not site_is_subsample(site) and not site["infer"].get("_deterministic")
    }
    reached = {name: sites[name] for name, density in densities.items() if density.dim() > plates}
    per_view = any(frame.dim == -1 for name in discrete for frame in sites[name]["cond_indep_stack"])
    if per_view or any(site["is_observed"] for site in reached.values()):
        raise InputError(
            f"the story's discrete site {discrete[0]!r} can be summed out only if it is one a group and reaches the "
            'view through latents: write it in the plate "groups" only, or fit with Pyro\'s TraceEnum_ELBO'
        )
    # The views of a group share k, so they are joined before the sum. Masks belong inside it, scales outside.
    joined = [
        scale_and_mask(densities[name], 1.0, site["mask"]).sum(-1, keepdim=True) for name, site in reached.items()
    ]
    density = torch.stack(torch.broadcast_tensors(*joined)).sum(0).flatten(0, -1 - plates).logsumexp(0)  # (..., N, 1)
    for name, site in reached.items():
        if name in discrete:
            del sites[name]
            continue
        site |= {"mask": None, "unscaled_log_prob": density}
        density = torch.zeros_like(density)
