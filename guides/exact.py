"""The exact guide of the linear-Gaussian story: with it the ELBO is the evidence, whatever is drawn."""

import pyro
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.models.linear import LinearGaussian


class Exact(PyroModule):
    """q(z, c | x) = p(c | x_1..J) Π_j p(z_j | c, x_j), the story's own posterior.

    Args:
        model: a `LinearGaussian` story.
        encoder: unused, nothing is amortized.

    Raises:
        InputError: any other story.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module | None = None) -> None:
        super().__init__()
        if not isinstance(model, LinearGaussian):
            raise InputError(
                f"the exact guide knows the linear story only, not {type(model).__name__}: use --guide mean_field"
            )
        # Held out of reach of torch's module tree: the story's parameters are the story's, not the guide's.
        self._story = (model,)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """p(z_j | x_1..J), content integrated out, for x `(N, J, *event)`: batch `(N, J)`, event `(D,)`."""
        (story,) = self._story
        content = story.content_posterior(x)
        latent = story.latent_posterior(x, content.mean)
        # E[z | c, x] moves with c by Σ_z / s².
        slope = latent.covariance_matrix / story.style_scale**2
        covariance = latent.covariance_matrix + slope @ content.covariance_matrix @ slope.mT
        return dist.MultivariateNormal(latent.mean, covariance, validate_args=False)

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        (story,) = self._story
        with pyro.plate("groups", x.shape[0], dim=-2):
            content = pyro.sample("content", story.content_posterior(x))
            with pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("z", story.latent_posterior(x, content))
