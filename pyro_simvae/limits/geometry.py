"""Where representations live: maps of the encoder's output `(N, J, D)` to the space of a limit, of the same shape."""

import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import gather


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

    Where Pyro's checks are off, as in the steps of a fit, representations that have collapsed give NaN.

    Raises:
        InputError: a covariance that has no inverse: fewer than D + 1 groups, or representations that have collapsed.
    """
    batch = gather(z)
    num_groups, _, dim = batch.shape
    mean = batch.mean(0)
    centred = (batch - mean).transpose(0, 1)
    covariance = centred.mT @ centred / (num_groups - 1)
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    factor, failed = torch.linalg.cholesky_ex((1 - eps) * covariance + eps * eye)
    if (eps == 0 and num_groups <= dim) or (is_validation_enabled() and failed.any()):
        raise InputError(
            f"representations of {num_groups} groups in {dim} dimensions cannot be whitened: "
            "give more groups (--training.num_groups), fewer dimensions (--latent_dim), or eps > 0"
        )
    factor = factor.masked_fill((failed > 0).view(-1, 1, 1), float("nan"))
    return torch.linalg.solve_triangular(factor, (z - mean).transpose(0, 1).mT, upper=False).mT.transpose(0, 1)
