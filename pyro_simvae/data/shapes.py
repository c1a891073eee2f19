"""Drawing coloured shapes from signed distance functions, a whole batch at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SATURATION = 0.85
"""Of every shape's colour: far from the greys of the background at any hue."""


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _circle(x: Tensor, y: Tensor, radius: float) -> Tensor:
    return torch.hypot(x, y) - radius


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return _circle(x, y, 0.85)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.72).abs() - 0.2


def _half_disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_circle(x, y - 0.4, 0.9), y - 0.4)


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_circle(x, y, 1.0), -_circle(x - 0.5, y, 0.8))


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.7, 0.7)


def _bar(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.97, 0.24)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.95, 0.24), _box(x, y, 0.24, 0.95))


def _ell(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x + 0.47, y, 0.23, 0.7), _box(x, y - 0.47, 0.7, 0.23))


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(math.sqrt(3) / 2 * x.abs() - y / 2, y) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Folded into one half of one of the five points, the star is one straight edge, from tip to notch.
    sector = 2 * math.pi / 5
    angle = torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2
    radius = torch.hypot(x, y)
    notch_x, notch_y = 0.4 * math.sin(sector / 2), 0.4 * math.cos(sector / 2)
    length = math.hypot(notch_x, 1 - notch_y)
    across, along = radius * angle.sin().abs(), radius * angle.cos()
    return ((1 - notch_y) * across + notch_x * (along - 1)) / length


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # A square on its corner, with a disc on each of its two upper sides.
    side = 0.5
    low, high = (x + y - 0.1) / math.sqrt(2), (y - 0.1 - x) / math.sqrt(2)
    lobes = torch.minimum(_circle(low + side, high, side), _circle(low, high + side, side))
    return torch.minimum(_box(low, high, side, side), lobes)


def _hourglass(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum((x.abs() - y.abs()) / math.sqrt(2) - 0.08, y.abs() - 0.64)


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": _disc,
    "half disc": _half_disc,
    "ring": _ring,
    "crescent": _crescent,
    "square": _square,
    "bar": _bar,
    "cross": _cross,
    "ell": _ell,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "hourglass": _hourglass,
}
"""Signed distances to a shape's edge, negative inside, in its own frame; every shape fits the unit disc."""


def draw(factors: dict[str, Tensor], size: int) -> Tensor:
    """Draw one shape an image, anti-aliased.

    Args:
        factors: Each (B,), on the device to draw on. shape: index into SHAPES. hue: in [0, 1). x, y: offset
            of the centre, rightwards and downwards, in half-sides. scale: the radius, in half-sides.
            rotation: radians clockwise. background: grey level in [0, 1].
        size: Side of the images in pixels.

    Returns:
        (B, 3, size, size) uint8.
    """
    device = factors["hue"].device
    pixel = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    column = {name: values[:, None, None] for name, values in factors.items()}
    right, down = pixel[None, None, :] - column["x"], pixel[None, :, None] - column["y"]
    cos, sin = column["rotation"].cos(), column["rotation"].sin()
    x = (cos * right + sin * down) / column["scale"]
    y = (cos * down - sin * right) / column["scale"]

    distance = torch.empty_like(x)
    for index, signed_distance in enumerate(SHAPES.values()):
        rows = (factors["shape"] == index).nonzero().squeeze(1)
        distance[rows] = signed_distance(x[rows], y[rows])
    # Half a pixel on either side of the edge is blended.
    coverage = (0.5 - distance * column["scale"] * (size / 2)).clamp(0, 1)[:, None]
    colour = _rgb(factors["hue"])[:, :, None, None]
    background = factors["background"][:, None, None, None]
    return ((background + coverage * (colour - background)) * 255).round().to(torch.uint8)


def _rgb(hue: Tensor) -> Tensor:
    """Colours (B, 3) in [0, 1] of full value and the fixed saturation, by hue (B,) in [0, 1)."""
    offset = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    sextant = torch.remainder(offset + hue[:, None] * 6, 6)
    return 1 - SATURATION * torch.minimum(sextant, 4 - sextant).clamp(0, 1)
