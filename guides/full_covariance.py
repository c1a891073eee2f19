"""The full-covariance guide: a Normal whose dimensions are correlated for every view's latent."""

import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.guides.content import Content, content_guide
from pyro_simvae.guides.extra import extra_latents
from pyro_simvae.guides.program import check_not_directions, check_one_encoder, encode, sample_latents
from pyro_simvae.networks import Encoder


class FullCovariance(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ), with q(z_ij | x_ij) correlated over dimensions.

        latent    z_ij ~ Normal(loc, L Lᵀ),  L = diag(scale) (I + A)     loc, scale, A of x_ij     (N, J, D)
        content   c_i  ~ content(z_i)                                    (N, 1, C), if the story has this site

    Loc and scale are the encoder's, and A is strictly lower triangular, a linear layer on its features. A is zero at
    the start, which makes it `MeanField`. On a Gaussian posterior of precision Λ, one view a group, the best
    `MeanField` stays ½ (Σ_d log Λ_dd - log det Λ) nats below the evidence, and the best of these reaches it.

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`.
        content: as in `MeanField`.

    Raises:
        InputError: what `MeanField` refuses; an encoder a modality.
    """

    def __init__(self, model: nn.Module, encoder: Encoder, content: Content = "auto") -> None:
        super().__init__()
        check_not_directions(model)
        check_one_encoder("full_covariance", encoder)
        self.encoder = encoder
        self.content = content_guide(model, encoder.latent_dim, content)
        self.extra = extra_latents(model, encoder)
        self.below: Tensor
        self.register_buffer("below", torch.tril_indices(encoder.latent_dim, encoder.latent_dim, -1), persistent=False)
        self.off_diagonal = nn.Linear(encoder.num_features, self.below.shape[1])
        for parameter in self.off_diagonal.parameters():
            nn.init.zeros_(parameter)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`: batch shape `(N, J)`, event shape `(D,)`."""
        return self._latent(*encode(self.encoder, x))

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        encoded = encode(self.encoder, x)
        sample_latents(x, self._latent(*encoded), self.content, self.extra, encoded[0])

    def _latent(self, features: Tensor, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        unit = torch.eye(loc.shape[-1], dtype=loc.dtype, device=loc.device).repeat(*loc.shape[:-1], 1, 1)
        unit[..., self.below[0], self.below[1]] = self.off_diagonal(features).to(loc.dtype)
        return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * unit, validate_args=False)
