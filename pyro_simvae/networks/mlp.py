"""The paper's multilayer perceptron, and its mirror image."""

import itertools
import math
from collections.abc import Sequence

from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.networks.base import Decoder, Encoder, Network


class MLP(Network):
    """Fully connected layers with ReLU between them; the decoder mirrors the encoder.

    Args:
        hidden: widths of the encoder's hidden layers, from the view to the latent.
            The default is the published 784-2000-500-500-2D.
    """

    def __init__(self, hidden: Sequence[int] = (2000, 500, 500)) -> None:
        if not hidden or min(hidden) < 1:
            raise InputError(f"hidden widths are {list(hidden)}: give one or more positive numbers")
        self.hidden = tuple(hidden)

    def encoder(self, event_shape: Sequence[int], latent_dim: int) -> Encoder:
        layers = _layers((math.prod(event_shape), *self.hidden))
        return Encoder(nn.Sequential(nn.Flatten(), *layers), self.hidden[-1], event_shape, latent_dim)

    def decoder(self, event_shape: Sequence[int], latent_dim: int) -> Decoder:
        layers = _layers((latent_dim, *reversed(self.hidden)))
        return Decoder(nn.Sequential(*layers, nn.Linear(self.hidden[0], math.prod(event_shape))), event_shape)


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    pairs = itertools.pairwise(widths)
    return [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU(inplace=True))]
