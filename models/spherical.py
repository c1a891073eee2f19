"""The spherical story: content and latents are directions, points of the unit sphere."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from pyro_simvae.checks import plate_sizes, positive
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood
from pyro_simvae.spherical import PowerSpherical


class Spherical(PyroModule):
    """p(x, z, c) = Π_i p(c_i) Π_j p(z_ij | c_i) p(x_ij | z_ij), with c and z on the sphere of R^D.

        content   c_i  ~ uniform on the sphere             what the views share         (N, 1, D)
        latent    z_ij ~ PowerSpherical(c_i, κ)            content plus style           (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                               (N, J, *event)

    Close to its content a latent varies as Normal with s² = 2/κ in each direction. Uniform content is a proper
    density here, so single views and draws from the prior are allowed.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D >= 2, of the space around the sphere.
        concentration: κ > 0; the mean cosine of a latent with its content is κ / (κ + D - 1).

    Raises:
        InputError: D < 2, or a concentration that is not positive and finite.
    """

    def __init__(self, likelihood: Likelihood, latent_dim: int, concentration: float = 20.0) -> None:
        super().__init__()
        if latent_dim < 2:
            raise InputError(f"latent_dim is {latent_dim}, and a sphere of directions needs 2 or more")
        self.likelihood = likelihood
        self.concentration: Tensor
        concentration = positive("concentration", concentration, finite=True)
        self.register_buffer("concentration", torch.tensor(concentration))
        self.pole: Tensor
        self.register_buffer("pole", torch.eye(latent_dim)[0], persistent=False)

    def content(self) -> dist.TorchDistribution:
        return PowerSpherical(self.pole, torch.zeros_like(self.concentration))  # without concentration: uniform

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return PowerSpherical(content, self.concentration)

    def forward(self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2) -> Tensor:
        """x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior."""
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content())
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                return pyro.sample("x", self.likelihood(z), obs=x)
