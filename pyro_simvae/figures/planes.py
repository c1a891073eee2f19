"""Planes in the space of latents, in which a figure shows them."""

from typing import NamedTuple

import numpy as np

from pyro_simvae.errors import InputError


class Plane(NamedTuple):
    """An affine plane of R^D.

    Attributes:
        origin: `(D,)`, the point that is drawn at (0, 0).
        axes: `(D, 2)`, orthonormal directions; at D = 1 the second is zero.
        names: of the axes.
    """

    origin: np.ndarray
    axes: np.ndarray
    names: tuple[str, str]

    def points(self, z: np.ndarray) -> np.ndarray:
        """Latents `(..., D)` in the plane: `(..., 2)`."""
        return (z - self.origin) @ self.axes

    def covariances(self, covariance: np.ndarray) -> np.ndarray:
        """Covariances `(..., D, D)` of latents in the plane: `(..., 2, 2)`."""
        return self.axes.T @ covariance @ self.axes


def principal_plane(z: np.ndarray) -> Plane:
    """The plane of the first two principal components of latents z `(M, D)`; their own dimensions at D <= 2.

    Raises:
        InputError: there are no latents, or they are not finite.
    """
    if z.ndim != 2 or z.size == 0 or not np.isfinite(z).all():
        raise InputError(f"latents of shape {z.shape} have no plane: give (items, dimensions), all finite")
    if z.shape[1] <= 2:
        return Plane(np.zeros(z.shape[1]), np.eye(z.shape[1], 2), ("z, dimension 0", "z, dimension 1"))
    origin = z.mean(axis=0, dtype=np.float64)
    centred = z - origin
    # Not scikit-learn's PCA, which divides by the variance: a collapsed latent has none.
    variances, directions = np.linalg.eigh(centred.T @ centred)
    share = np.maximum(variances[::-1] / max(variances.sum(), np.finfo(np.float64).tiny), 0)
    first, second = (f"principal component {index + 1} ({share[index]:.0%} of the variance)" for index in (0, 1))
    return Plane(origin, directions[:, :-3:-1], (first, second))


def dimension_plane(latent_dim: int, first: int, second: int) -> Plane:
    """The plane of two dimensions of latents of D.

    Raises:
        InputError: they are the same, or not in [0, D).
    """
    if first == second or not {first, second} <= set(range(latent_dim)):
        raise InputError(f"dimensions {first} and {second} make no plane: give two that differ, in [0, {latent_dim})")
    axes = np.eye(latent_dim)[:, [first, second]]
    return Plane(np.zeros(latent_dim), axes, (f"z, dimension {first}", f"z, dimension {second}"))
