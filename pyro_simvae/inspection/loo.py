"""How well the views of a group predict each other: leave-one-view-out by importance sampling."""

import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from scipy.special import logsumexp

from pyro_simvae.errors import InputError


def leave_one_view_out(tree: xr.DataTree) -> xr.Dataset:
    """log p(x_ij | x_i,-j) of every view, in nats, by Pareto-smoothed importance sampling.

        log p(x_ij | x_i,-j) ≈ log Σ_s w_s p(x_ij | z_s),    w_s ∝ p(x_i, latents_s) / [ q(latents_s) p(x_ij | z_s) ]

    `arviz_stats.loo` of the same tree takes the draws to be from the exact posterior, w_s ∝ 1 / p(x_ij | z_s).

    Args:
        tree: of `posterior_tree`.

    Returns:
        For each observed site NAME, elpd_NAME and pareto_k_NAME, (group, view); a Pareto k above 0.7 says that this
        view moves the posterior too much for the draws at hand.

    Raises:
        InputError: a tree without densities.

    Source: Vehtari, Gelman and Gabry 2017 (arXiv:1507.04544), equation 3; Magnusson et al. 2019 (arXiv:1902.06504) for
        draws that are not from the posterior.
    """
    if "log_likelihood" not in tree.children or "sample_stats" not in tree.children:
        raise InputError("the tree has no log_likelihood: inspect a run that was fitted with its decoder")
    log_weight = tree["sample_stats"]["log_weight"]
    found = {}
    for name, log_likelihood in tree["log_likelihood"].data_vars.items():
        log_ratio, density = xr.broadcast(log_weight - log_likelihood, log_likelihood)
        stacked = [part.stack(sample=("chain", "draw")) for part in (log_ratio, density)]
        ratios, densities = (part.transpose(..., "sample") for part in stacked)
        # The library takes a log-likelihood, whose negative it smooths.
        smoothed, k = array_stats.psislw(-ratios.values.astype(np.float64), axis=-1)
        dims = ratios.dims[:-1]
        smoothed = smoothed - logsumexp(smoothed, axis=-1, keepdims=True)
        found[f"elpd_{name}"] = (dims, logsumexp(smoothed + densities.values, axis=-1))
        found[f"pareto_k_{name}"] = (dims, k)
    coords = {"group": log_weight["group"]}
    return xr.Dataset(found, coords=coords)
