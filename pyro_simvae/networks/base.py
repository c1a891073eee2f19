"""What a network is here: a matched encoder and decoder whose sizes follow from the shape of a view."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.errors import InputError


class Network(ABC):
    """A family of encoder and decoder, built for a view's shape."""

    @abstractmethod
    def encoder(self, event_shape: Sequence[int], latent_dim: int) -> "Encoder":
        """Views `(*batch, *event_shape)` to loc and scale of the latent, each `(*batch, latent_dim)`."""

    @abstractmethod
    def decoder(self, event_shape: Sequence[int], latent_dim: int) -> "Decoder":
        """Latents `(*batch, latent_dim)` to `(*batch, *event_shape)`, any real numbers."""


class Encoder(nn.Module):
    """Loc and scale of a mean-field Normal over the latent.

    Args:
        features: from `(n, *event_shape)` to `(n, num_features)`.
        num_features: what `features` gives.
        event_shape: shape of one view.
        latent_dim: D.
        projection: widths of hidden layers between the features and the latent, each with batch norm, as in SimCLR.

    Raises:
        InputError: a width that is not positive.
    """

    def __init__(
        self,
        features: nn.Module,
        num_features: int,
        event_shape: Sequence[int],
        latent_dim: int,
        projection: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if any(width < 1 for width in projection):
            raise InputError(f"widths of the projection are {list(projection)}: give positive numbers")
        self.features = features
        self.num_features = num_features
        widths = (num_features, *projection)
        layers = [
            layer
            for narrow, wide in itertools.pairwise(widths)
            for layer in (nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU(inplace=True))
        ]
        self.projection = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2 * latent_dim)
        self.event_shape = torch.Size(event_shape)
        self.latent_dim = latent_dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: `(*batch, *event_shape)`, all of them in one pass. Returns loc and scale > 0, `(*batch, D)`."""
        return self._loc_and_scale(self._features(x), x.dtype, self._batch_shape(x))

    def from_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Loc and scale, `(*batch, D)`, of what `before_projection` gives, `(*batch, num_features)`."""
        return self._loc_and_scale(features.flatten(0, -2), features.dtype, features.shape[:-1])

    def before_projection(self, x: Tensor) -> Tensor:
        """x: `(*batch, *event_shape)`. Returns the features, `(*batch, num_features)`."""
        return self._features(x).to(x.dtype).reshape(*self._batch_shape(x), self.num_features)

    def projected(self, widths: Sequence[int]) -> "Encoder":
        """The same features with a projection head of these hidden widths and a new last layer."""
        return Encoder(self.features, self.num_features, self.event_shape, self.latent_dim, widths)

    def _loc_and_scale(self, features: Tensor, dtype: torch.dtype, batch: torch.Size) -> tuple[Tensor, Tensor]:
        if len(features) == 1 and self.training and len(self.projection):
            raise InputError(
                "a projection head normalizes over the batch, and here that is one view: give more groups "
                "(--training.num_groups), or no projection"
            )
        both = self.head(self.projection(features)).to(dtype)
        loc, raw_scale = both.reshape(*batch, 2 * self.latent_dim).chunk(2, -1)
        return loc, F.softplus(raw_scale) + 1e-5

    def _features(self, x: Tensor) -> Tensor:
        return self.features(x.reshape(-1, *self.event_shape))

    def _batch_shape(self, x: Tensor) -> torch.Size:
        return x.shape[: x.dim() - len(self.event_shape)]


class Decoder(nn.Module):
    """Latents to views, whatever their batch shape.

    Args:
        layers: from `(n, D)` to `(n, *event_shape)` or its flattened form.
        event_shape: shape of one view.
    """

    def __init__(self, layers: nn.Module, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.layers = layers
        self.event_shape = torch.Size(event_shape)

    def forward(self, z: Tensor) -> Tensor:
        """z: `(*batch, D)`. Returns `(*batch, *event_shape)`."""
        return self.layers(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], *self.event_shape)


def image_shape(event_shape: Sequence[int], network: str) -> tuple[int, int, int]:
    """(C, H, W) of a view. Raises InputError where a view is not an image."""
    if len(event_shape) != 3:
        raise InputError(f"--network {network} reads images, these views are vectors: use --network mlp")
    channels, height, width = event_shape
    return channels, height, width
