"""Affine maps of images, composed into one and applied by one bilinear resampling.

Where a pixel of a view comes from is an affine map. With positions measured in pixels from the image's centre, x to the
right and y downwards, the pixel at e of the view shows what is at

    d = A e + b

in the item. The steps of an augmentation act one after the other, so the view's pixel passes back through them, the
last one first. Their composition is again an affine map, so the item is interpolated once, whatever the steps are: a
crop of a rotated image is sharper than where it is rotated, stored as pixels and then cropped, as in kornia.
"""

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pyro_simvae.data.random_parameters import Drawn


class Map(NamedTuple):
    """Positions in views to positions in items, d = A e + b, in pixels from the centre."""

    linear: Tensor
    """A, `(B, 2, 2)`."""
    offset: Tensor
    """b, `(B, 2)`."""


def source_map(parameters: Drawn, height: int, width: int) -> Map | None:
    """Where the views' pixels come from; None if nothing moves them.

    Args:
        parameters: each `(B, ...)`, as `Views.augment` documents; the geometric ones are used.
        height, width: of the images, in pixels.
    """
    maps = []
    if "horizontal_flip" in parameters:
        sign = 1 - 2 * parameters["horizontal_flip"]
        maps.append(_scale(sign, torch.ones_like(sign)))
    if "vertical_flip" in parameters:
        sign = 1 - 2 * parameters["vertical_flip"]
        maps.append(_scale(torch.ones_like(sign), sign))
    if "crop_box" in parameters:
        maps.append(_crop(parameters["crop_box"], height, width))
    if "rotation" in parameters:
        maps.append(_affine(parameters, height, width))
    return reduce(_then, maps) if maps else None


def resample(images: Tensor, source: Map, mode: str = "bilinear") -> Tensor:
    """Views of images; black beyond the edge.

    Args:
        images: `(n, C, H, W)`.
        source: maps of n J views.
        mode: "nearest" moves whole pixels exactly.

    Returns:
        Views `(n, C, J, H, W)`, strides in this order: the J views of an image are one tall picture to
        `grid_sample`, which spares J copies of the image.
    """
    n, channels, height, width = images.shape
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    down = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    grid = images.new_empty(len(source.offset), height, width, 2)
    for axis, side in enumerate((width, height)):  # grid_sample counts from the centre, in half sides
        a, b = source.linear[:, axis, :, None, None] * (2 / side), source.offset[:, axis, None, None] * (2 / side)
        grid[..., axis].copy_(a[:, 0] * across).add_(a[:, 1] * down + b)
    tall = functional.grid_sample(images, grid.view(n, -1, width, 2), mode=mode, align_corners=False)
    return tall.view(n, channels, -1, height, width)


def _then(first: Map, second: Map) -> Map:
    """The map e -> second(first(e)). Written out: a matrix product may be in TF32, too coarse for positions."""
    linear = (second.linear[..., None] * first.linear[:, None]).sum(2)
    return Map(linear, (second.linear * first.offset[:, None]).sum(2) + second.offset)


def _crop(box: Tensor, height: int, width: int) -> Map:
    """The centres of a view's outermost pixels come from the centres of the box's.

    box `(B, 4)`: left, top, width and height, as fractions of the sides.
    """
    left, top, w, h = box.unbind(1)
    last_x, last_y = max(width - 1, 1), max(height - 1, 1)  # an image one pixel wide has nothing to scale
    scale = _scale((w * width - 1) / last_x, (h * height - 1) / last_y)
    offset = torch.stack([(left + w / 2 - 0.5) * width, (top + h / 2 - 0.5) * height], 1)
    return Map(scale.linear, offset)


def _affine(parameters: Drawn, height: int, width: int) -> Map:
    """The inverse of the item's own movement, d -> e = s R S d + t.

    R turns clockwise by the rotation, s is the scale, t the translation, and with tangents u, v of the shears

        S = [  1      -u   ]     S^-1 = [ 1 + u v   u ]     R^-1 = [  cos  sin ]
            [ -v   1 + u v ]            [    v      1 ]            [ -sin  cos ]
    """
    angle = parameters["rotation"] * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    u, v = (parameters["shear"] * (math.pi / 180)).tan().unbind(1)
    rows = [(1 + u * v) * cos - u * sin, (1 + u * v) * sin + u * cos, v * cos - sin, v * sin + cos]
    linear = torch.stack(rows, 1).view(-1, 2, 2) / parameters["scale"][:, None, None]
    right, down = parameters["translation"].unbind(1)
    moved = torch.stack([right * width, down * height], 1)
    return Map(linear, -(linear * moved[:, None]).sum(2))


def _scale(x: Tensor, y: Tensor) -> Map:
    zero = torch.zeros_like(x)
    return Map(torch.stack([x, zero, zero, y], 1).view(-1, 2, 2), torch.stack([zero, zero], 1))
