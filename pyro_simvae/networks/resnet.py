"""ResNet-18 with a stem for small images, and a mirrored decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.networks.base import Decoder, Encoder, Network, image_shape


class ResNet18(Network):
    """torchvision's ResNet-18 with a 3 x 3 stem and no pooling (CIFAR's), and a decoder that mirrors it.

    Channels come last in memory, which is faster on processors and GPUs.

    Source: He et al. 2016 (arXiv:1512.03385), section 4.2, for the stem.
    """

    def encoder(self, event_shape: Sequence[int], latent_dim: int) -> Encoder:
        from torchvision.models import resnet18  # here, because importing torchvision's models is slow

        channels, _, _ = image_shape(event_shape, "resnet18")
        features = resnet18(weights=None)
        num_features = features.fc.in_features
        features.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        features.maxpool = nn.Identity()
        features.fc = nn.Identity()
        return Encoder(features, num_features, event_shape, latent_dim).to(memory_format=torch.channels_last)

    def decoder(self, event_shape: Sequence[int], latent_dim: int) -> Decoder:
        channels, height, width = image_shape(event_shape, "resnet18")
        sides = [(height, width)]
        for _ in range(3):
            sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
        rows, columns = sides[3]
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, 512 * rows * columns),
            nn.Unflatten(1, (512, rows, columns)),
            UpBlock(512, 512),
            UpBlock(512, 256, sides[2]),
            UpBlock(256, 256),
            UpBlock(256, 128, sides[1]),
            UpBlock(128, 128),
            UpBlock(128, 64, sides[0]),
            UpBlock(64, 64),
            UpBlock(64, 64),
            nn.Conv2d(64, channels, 3, padding=1),
        ]
        return Decoder(nn.Sequential(*layers), event_shape).to(memory_format=torch.channels_last)


class UpBlock(nn.Module):
    """The basic residual block, upsampling (nearest) before its convolutions where a side is given.

    Args:
        in_channels, out_channels: channels before and after.
        side: (H, W) after the block; None keeps it.
    """

    def __init__(self, in_channels: int, out_channels: int, side: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.side = side
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        changes = in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, in_channels, h, w)`. Returns `(n, out_channels, *side)`."""
        if self.side is not None:
            x = F.interpolate(x, size=self.side, mode="nearest")
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
