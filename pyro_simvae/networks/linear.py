"""The network of the linear-Gaussian story: one affine map each way."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_simvae.networks.base import Encoder, Network


class LinearDecoder(nn.Module):
    """x = W z + b, with W `(P, D)` and b `(P,)` in `linear`.

    Args:
        event_shape: shape of one view, P values in all.
        latent_dim: D.
    """

    def __init__(self, event_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, math.prod(event_shape))
        self.event_shape = torch.Size(event_shape)

    def forward(self, z: Tensor) -> Tensor:
        """z: `(*batch, D)`. Returns `(*batch, *event_shape)`."""
        return self.linear(z).unflatten(-1, self.event_shape)


class Linear(Network):
    """An affine encoder and an affine decoder."""

    def encoder(self, event_shape: Sequence[int], latent_dim: int) -> Encoder:
        return Encoder(nn.Flatten(), math.prod(event_shape), event_shape, latent_dim)

    def decoder(self, event_shape: Sequence[int], latent_dim: int) -> LinearDecoder:  # type: ignore[override]
        return LinearDecoder(event_shape, latent_dim)
