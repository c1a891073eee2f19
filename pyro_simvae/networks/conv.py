"""A small convolutional pair for images of 8 to 64 pixels a side."""

from collections.abc import Sequence

from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.networks.base import Decoder, Encoder, Network, image_shape


class Conv(Network):
    """Strided convolutions down to a quarter of the side or less, a hidden layer, and the mirror image up.

    Args:
        channels: channels after each convolution; every one halves the side.
        hidden: width of the fully connected layer next to the latent.
        dense_decoder: whether the decoder has that layer only and no convolutions, instead of the mirror image:
            on small images it is several times faster.
    """

    def __init__(self, channels: Sequence[int] = (32, 64), hidden: int = 256, dense_decoder: bool = False) -> None:
        if not channels or min(*channels, hidden) < 1:
            raise InputError(f"channels are {list(channels)} and hidden {hidden}: give positive numbers")
        self.channels = tuple(channels)
        self.hidden = hidden
        self.dense_decoder = dense_decoder

    def _sides(self, height: int, width: int) -> list[tuple[int, int]]:
        """The sides of the image after each halving, the image's own first."""
        sides = [(height, width)]
        for _ in self.channels:
            rows, columns = sides[-1]
            sides.append((-(-rows // 2), -(-columns // 2)))  # rounded up, as a padded stride of 2 does
        return sides

    def encoder(self, event_shape: Sequence[int], latent_dim: int) -> Encoder:
        previous, height, width = image_shape(event_shape, "conv")
        layers: list[nn.Module] = []
        for channels in self.channels:
            layers += [nn.Conv2d(previous, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
            previous = channels
        rows, columns = self._sides(height, width)[-1]
        layers += [nn.Flatten(), nn.Linear(previous * rows * columns, self.hidden), nn.ReLU(inplace=True)]
        return Encoder(nn.Sequential(*layers), self.hidden, event_shape, latent_dim)

    def decoder(self, event_shape: Sequence[int], latent_dim: int) -> Decoder:
        image_channels, height, width = image_shape(event_shape, "conv")
        first = [nn.Linear(latent_dim, self.hidden), nn.ReLU(inplace=True)]
        if self.dense_decoder:
            return Decoder(nn.Sequential(*first, nn.Linear(self.hidden, image_channels * height * width)), event_shape)
        sides = self._sides(height, width)[::-1]
        channels = (*reversed(self.channels), image_channels)
        rows, columns = sides[0]
        layers: list[nn.Module] = [
            *first,
            nn.Linear(self.hidden, channels[0] * rows * columns),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (channels[0], rows, columns)),
        ]
        for i, (rows, columns) in enumerate(sides[1:]):
            # A padded stride of 2 maps sides 2n - 1 and 2n alike to n: the output padding says which to give back.
            padding = rows - (2 * sides[i][0] - 1), columns - (2 * sides[i][1] - 1)
            up = nn.ConvTranspose2d(channels[i], channels[i + 1], 3, stride=2, padding=1, output_padding=padding)
            layers += [up, nn.ReLU(inplace=True)]
        return Decoder(nn.Sequential(*layers[:-1]), event_shape)
