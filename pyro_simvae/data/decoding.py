"""Decoding images of any mode and size into uint8 tensors of one shape."""

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_simvae.data.sources import Source
from pyro_simvae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
"""PIL's modes of one channel, besides the sixteen-bit ones, which all start with I;16."""


class Format(NamedTuple):
    """What every image is decoded to.

    channels: 1 (grey) or 3 (RGB).
    convert: Whether an image with another number of channels is converted; if not, it is an error.
    """

    channels: int
    height: int
    width: int
    convert: bool

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


def probe(source: Source) -> Format:
    """The format that keeps an image as it is.

    Raises:
        InputError: If it is not an image that can be read.
    """
    image = _read(source, None)
    return Format(_num_channels(image), image.height, image.width, convert=False)


def decode(source: Source, target: Format) -> Tensor:
    """An image, scaled to cover the target's frame and cropped to its centre: (C, H, W) uint8.

    Raises:
        InputError: If it cannot be read, has other channels and the target does not convert, or holds
            numbers out of range.
    """
    from PIL import Image, ImageOps

    image = _read(source, max(target.height, target.width))
    channels = _num_channels(image)
    if channels != target.channels and not target.convert:
        raise InputError(
            f"{source} has {_channels(channels)} where the first image has {_channels(target.channels)}; "
            f"convert all with --data.channels 3 (or 1)"
        )
    image = _eight_bit(image, target.channels, source)
    if image.size != (target.width, target.height):
        image = ImageOps.fit(image, (target.width, target.height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _read(source: Source, least: int | None) -> "Image":
    """The upright image. A JPEG far larger than `least` pixels a side is read at less resolution: faster."""
    from PIL import Image, ImageOps

    encoded = io.BytesIO(source.read())
    try:
        with Image.open(encoded) as image:
            if least is not None:
                image.draft(None, (least, least))
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{source} is not an image that can be read; remove it or write it anew") from error


def _num_channels(image: "Image") -> int:
    return 1 if image.mode in GREY_MODES or image.mode.startswith("I;16") else 3


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _eight_bit(image: "Image", channels: int, source: Source) -> "Image":
    """`image` in mode L or RGB."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        # PIL's own conversion would clip these at 255 instead of scaling them.
        most = 1 if image.mode == "F" else 65535
        values = np.asarray(image) / most
        if not ((values >= 0) & (values <= 1)).all():  # NaN fails too
            raise InputError(f"{source} has pixels outside [0, {most}]; scale them, or save the image with 8 bits")
        image = Image.fromarray((values * 255).round().astype(np.uint8))
    elif image.mode == "P":
        # Straight to RGB, PIL would warn of every palette with transparency.
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")
