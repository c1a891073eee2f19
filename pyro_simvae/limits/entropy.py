"""Estimates of H[z] from a batch: what takes the decoder's place in a limit. All in nats."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyro_simvae.inference.gather import first_row, gather
from pyro_simvae.limits.latents import Latents

Candidates = Literal["all", "other groups"]

CHUNK = 2**24
"""Numbers that a kernel matrix may hold at once; larger ones are made in pieces, anew in the backward pass."""


def log_density(latents: Latents, z: Tensor, candidates: Candidates = "all") -> Tensor:
    """The leave-one-out kernel density under the story's own predictive kernel.

        log q̂(z_ij) = log mean_k p(z_ij | z_k),   k over all other latents of the batch

    Args:
        latents: gives the kernel.
        z: `(N, J, D)`.
        candidates: "all" other latents, NJ - 1, or those of "other groups" only, (N - 1) J.

    Returns:
        `(N, J)`, so that its negative mean estimates H[z].
    """
    num_groups, num_views, dim = z.shape
    pool = gather(z)
    own = torch.arange(num_groups * num_views, device=z.device).unsqueeze(1) + first_row(z) * num_views
    if candidates == "other groups":
        own = own - own % num_views + torch.arange(num_views, device=z.device)
    total = log_sum_kernel(latents, z.reshape(-1, dim), pool.reshape(-1, dim), own)
    return total.reshape(num_groups, num_views) - math.log(len(pool) * num_views - own.shape[1])


def log_density_across(latents: Latents, z: Tensor) -> Tensor:
    """The kernel density of each view among another view's latents, its partner's included.

        mean over j' ≠ j of log mean_k p(z_ij | z_kj'),   k over all N groups

    z: `(N, J, D)`. Returns `(N, J)`.
    """
    num_views, pool = z.shape[1], gather(z)
    by_view = [
        torch.stack([log_sum_kernel(latents, z[:, j], pool[:, k]) for k in range(num_views) if k != j]).mean(0)
        for j in range(num_views)
    ]
    return torch.stack(by_view, 1) - math.log(len(pool))


def log_sum_kernel(latents: Latents, z: Tensor, given: Tensor, excluded: Tensor | None = None) -> Tensor:
    """log Σ_k p(z_m | given_k) in pieces of bounded memory.

    Args:
        latents: gives the kernel.
        z: `(M, D)`.
        given: `(K, D)`.
        excluded: which k to leave out for each m, `(M, E)` int64.

    Returns:
        `(M,)`.
    """

    def piece(rows: slice, anchors: Tensor) -> Tensor:
        kernel = latents.kernel(anchors, given)
        if excluded is not None:
            kernel = kernel.scatter(1, excluded[rows], -torch.inf)
        return kernel.logsumexp(-1)

    return in_pieces(piece, z, len(given) * latents.floats_per_pair)


def log_mixture(latents: Latents, z: Tensor, content: Tensor) -> Tensor:
    """log mean_k p(z_ij | c_k), the density of latents whose content is any of K, all as likely.

    Args:
        latents: gives p(z | c).
        z: `(N, J, D)`.
        content: `(K, D)`.

    Returns:
        `(N, J)`.
    """

    def piece(rows: slice, z: Tensor) -> Tensor:
        return latents.content_kernel(z, content).logsumexp(-1)

    floats = min(latents.floats_per_pair, z.shape[-1])  # no integral over content here
    total = in_pieces(piece, z.flatten(0, 1), len(content) * floats)
    return total.reshape(z.shape[:2]) - math.log(len(content))


def in_pieces(function: Callable[[slice, Tensor], Tensor], z: Tensor, floats: int) -> Tensor:
    """function(rows, z[rows]) for slices of rows that together are all, joined.

    Args:
        function: gives a row for each row.
        z: `(M, D)`.
        floats: numbers that the function holds in memory for one row.
    """
    size = max(1, CHUNK // floats)
    if size >= len(z):
        return function(slice(None), z)
    rows = [slice(start, start + size) for start in range(0, len(z), size)]
    return torch.cat([checkpoint(function, row, z[row], use_reentrant=False) for row in rows])
