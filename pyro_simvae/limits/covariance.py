"""Entropies made of second moments: the Gaussian one, and its expansion where moments are near those of N(0, I).

With σ_d the scales of a view and R its correlations, exactly

    ½ log det Σ = Σ_d log σ_d + ½ log det R,     ½ log det R = -¼ Σ_{d≠d'} R_dd'² + O(R³)
"""

import math

import torch
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import gather

LOG_2PIE = math.log(2 * math.pi * math.e)


def covariance(z: Tensor, correction: int = 0) -> Tensor:
    """Covariance of each view over the joined batch, `(N, J, D)` to `(J, D, D)`, over N - `correction`."""
    batch = gather(z)
    centred = (batch - batch.mean(0)).transpose(0, 1)
    return centred.mT @ centred / (len(batch) - correction)


def gaussian_entropy(z: Tensor, eps: float = 0.0, pooled: bool = False) -> Tensor:
    """½ log det 2πe(Cov + εI): the entropy of each view, exact where it is Gaussian and otherwise an upper bound.

    Args:
        z: `(N, J, D)`.
        eps: ε >= 0, in squared units of z.
        pooled: one covariance for all views, where they share their distribution.

    Returns:
        `(J,)`, or `(1,)` where pooled.

    Raises:
        InputError: a covariance that has no inverse, for ε = 0.
    """
    if pooled:
        batch = gather(z).flatten(0, 1)
        centred = batch - batch.mean(0)
        cov = (centred.mT @ centred).unsqueeze(0) / len(batch)
        rows = len(batch)
    else:
        cov = covariance(z)
        rows = len(gather(z))
    dim = z.shape[-1]
    if eps == 0 and rows <= dim:
        raise InputError(
            f"the covariance of {rows} representations in {dim} dimensions has no inverse: "
            "give more groups (--training.num_groups), or eps > 0"
        )
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    return (dim * LOG_2PIE + torch.linalg.slogdet(cov + eps * eye).logabsdet) / 2


def scale_shortfall(cov: Tensor, eps: float = 0.0) -> Tensor:
    """Σ_d max(0, 1 - σ_d) with σ_d = (Cov_dd + ε)^½, `(..., D, D)` to `(...)`: -Σ_d log σ_d to first order in σ_d - 1.

    Below 1 it is less than -log σ_d, at collapse by infinitely much; above 1 it gives no reward where the entropy does.
    """
    return (1 - (cov.diagonal(dim1=-2, dim2=-1) + eps).sqrt()).relu().sum(-1)


def squared_covariances(cov: Tensor) -> Tensor:
    """Σ_{d≠d'} C_dd'², `(..., D, D)` to `(...)`: at unit variances -2 log det C to second order."""
    off_diagonal = ~torch.eye(cov.shape[-1], dtype=torch.bool, device=cov.device)
    return cov.where(off_diagonal, 0.0).square().sum((-2, -1))
