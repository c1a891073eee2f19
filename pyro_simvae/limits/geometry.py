"""Where representations live: maps of the encoder's output `(N, J, D)` to the space of a limit, of the same shape."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.limits.gather import gather


def euclidean(z: Tensor) -> Tensor:
    """As they are."""
    return z


def sphere(z: Tensor) -> Tensor:
    """Projected to unit length."""
    return F.normalize(z, dim=-1)


def standardised(z: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean 0 and standard deviation 1 over the batch, for each view and dimension (population variance)."""
    batch = gather(z)
    variance = batch.var(0, correction=0)
    return (z - batch.mean(0)) / (variance + eps).sqrt()


def whitened(z: Tensor, eps: float = 0.0) -> Tensor:
    """Mean 0 and covariance I over the batch, for each view: by the Cholesky factor of its covariance + eps I.

    Raises:
        torch.linalg.LinAlgError: fewer than D + 1 groups, so that the covariance has no inverse.
    """
    batch = gather(z)
    num_groups, _, dim = batch.shape
    mean = batch.mean(0)
    centred = (batch - mean).transpose(0, 1)
    covariance = centred.mT @ centred / (num_groups - 1)
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky((1 - eps) * covariance + eps * eye)
    return torch.linalg.solve_triangular(factor, (z - mean).transpose(0, 1).mT, upper=False).mT.transpose(0, 1)
