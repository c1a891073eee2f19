"""The linear-Gaussian story: SimVAE with a linear decoder, where posterior and evidence have closed forms.

It is the story to test against. With one view a group it is probabilistic PCA.
"""

import math
from typing import cast

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood, Normal
from pyro_simvae.networks.linear import LinearDecoder


class LinearGaussian(PyroModule):
    """p(x, z, c) with x_ij = W z_ij + b + σ ε.

        content   c_i  ~ Normal(0, g² I)                 (N, 1, D)
        latent    z_ij ~ Normal(c_i, s² I)               (N, J, D)
        view      x_ij ~ Normal(W z_ij + b, σ² I)        (N, J, *event), P values each

    W and b are learned, and σ with `--likelihood.learn_scale true`; g and s are fixed, since W carries the units.

    Args:
        likelihood: `Normal` with a linear decoder.
        latent_dim: D.
        content_scale: g, finite, > 0.
        style_scale: s, finite, > 0.

    Raises:
        InputError: a scale that is not positive and finite; a likelihood that is not linear-Gaussian.

    Source: Tipping and Bishop 1999, *Probabilistic principal component analysis*, for J = 1.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        content_scale: float = 1.0,
        style_scale: float = 0.4,
    ) -> None:
        super().__init__()
        if not isinstance(likelihood, Normal) or not isinstance(likelihood.decoder, LinearDecoder):
            raise InputError("the linear story is linear-Gaussian: use --network linear and --likelihood normal")
        self.likelihood = likelihood
        self.content_scale = positive("content_scale", content_scale, finite=True)
        self.style_scale = positive("style_scale", style_scale, finite=True)
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", dist.Normal(self.origin, self.content_scale).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(content, self.style_scale).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)

    def _view(self) -> tuple[Tensor, Tensor, Tensor]:
        """W `(P, D)`, b `(P,)`, σ² `()` of p(x | z)."""
        linear = cast(LinearDecoder, self.likelihood.decoder).linear
        return linear.weight, linear.bias, (2 * self.likelihood.log_scale).exp()

    def evidence(self, x: Tensor) -> Tensor:
        """log p(x_1..J), exact, in nats.

        An orthogonal change of the views makes them independent: their (scaled) mean has covariance
        (s² + J g²) W Wᵀ + σ² I, each of the J - 1 contrasts s² W Wᵀ + σ² I.

        Args:
            x: `(N, J, *event)`.

        Returns: `(N,)`.
        """
        weight, bias, noise = self._view()
        num_views = x.shape[1]
        basis = torch.eye(num_views, dtype=x.dtype, device=x.device)
        basis[:, 0] = 1.0
        rotation, _ = torch.linalg.qr(basis)  # orthonormal; the first column is constant, the others are contrasts
        rotated = rotation.T @ (x.flatten(2) - bias)
        scale = torch.full((num_views, 1, 1), self.style_scale, dtype=x.dtype, device=x.device)
        scale[0] = math.sqrt(self.style_scale**2 + num_views * self.content_scale**2)
        views = dist.LowRankMultivariateNormal(torch.zeros_like(bias), scale * weight, noise.expand_as(bias))
        return views.log_prob(rotated).sum(-1)

    def content_posterior(self, x: Tensor) -> dist.TorchDistribution:
        """p(c | x_1..J), exact: precision I/g² + J K WᵀW with K = (σ² I + s² WᵀW)^-1.

        Args:
            x: `(N, J, *event)`.

        Returns: batch shape `(N, 1)`, event shape `(D,)`.
        """
        weight, bias, noise = self._view()
        gram = weight.T @ weight
        eye = torch.eye(len(gram), dtype=x.dtype, device=x.device)
        gain = torch.linalg.inv(noise * eye + self.style_scale**2 * gram)
        precision = eye / self.content_scale**2 + x.shape[1] * gain @ gram
        evidence = (x.flatten(2) - bias).sum(1, keepdim=True) @ weight @ gain.T
        return _normal_from_precision(evidence, precision)

    def latent_posterior(self, x: Tensor, content: Tensor) -> dist.TorchDistribution:
        """p(z_j | c, x_j), exact: precision I/s² + WᵀW/σ².

        Args:
            x: `(N, J, *event)`.
            content: `(N, 1, D)`.

        Returns: batch shape `(N, J)`, event shape `(D,)`.
        """
        weight, bias, noise = self._view()
        eye = torch.eye(weight.shape[1], dtype=x.dtype, device=x.device)
        precision = eye / self.style_scale**2 + weight.T @ weight / noise
        evidence = content / self.style_scale**2 + (x.flatten(2) - bias) @ weight / noise
        return _normal_from_precision(evidence, precision)


def _normal_from_precision(evidence: Tensor, precision: Tensor) -> dist.TorchDistribution:
    """Normal(Λ^-1 evidence, Λ^-1) for a precision Λ `(D, D)`, symmetric up to rounding, and evidence `(N, K, D)`."""
    precision = (precision + precision.T) / 2
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return dist.MultivariateNormal(evidence @ covariance, covariance, validate_args=False)
