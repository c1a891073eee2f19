"""From uniform numbers to the parameters of an augmentation, by arithmetic alone.

Every view takes one row of uniform numbers, and what it is drawn with is a function of that row: static shapes, no
value looked at on the host. Parameters have the meaning that `Views.augment` documents.
"""

import math

import torch
from torch import Tensor

from pyro_simvae.data.augmentation import Augmentation

Drawn = dict[str, Tensor]
"""Parameters drawn for a batch of views, each (B, ...)."""

TRIES = 10
"""Pairs (area, ratio) that a crop is the first fitting one of."""


def num_uniforms(augmentation: Augmentation) -> int:
    """How many uniform numbers a view takes."""
    return sum(_columns(augmentation).values())


def parameters_of(augmentation: Augmentation, uniforms: Tensor, height: int, width: int) -> Drawn:
    """Parameters of the steps in use.

    Args:
        augmentation: what is done to a view.
        uniforms: `(B, num_uniforms)` in [0, 1).
        height, width: of the images, in pixels.

    Returns:
        The parameters, each `(B, ...)`; where colours are jittered also "jitter_order" `(B, 4)`: the steps act by
        ascending value.
    """
    a = augmentation
    columns = _columns(a)
    of = dict(zip(columns, uniforms.split(list(columns.values()), 1), strict=True))
    drawn: Drawn = {}
    if "affine" in of:
        angle, right, down, scale, *shear = of["affine"].unbind(1)
        drawn["rotation"] = _between(-a.rotation, a.rotation, angle)
        drawn["translation"] = _between(-a.translation, a.translation, torch.stack([right, down], 1))
        drawn["scale"] = _between(*a.scale, scale)
        drawn["shear"] = _between(-a.shear, a.shear, torch.stack(shear, 1))
    if "crop" in of and a.crop_scale is not None:
        drawn["crop_box"] = _crop_box(a.crop_scale, a.crop_ratio, of["crop"], height, width)
    for name, probability in (("horizontal_flip", a.horizontal_flip), ("vertical_flip", a.vertical_flip)):
        if name in of:
            drawn[name] = _happens(probability, of[name])
    if "jitter" in of and a.jitter is not None:
        happens, *factors = of["jitter"][:, :5].unbind(1)
        jittered = _happens(a.jitter_probability, happens)
        # Not jittered: factors of 1, and no turn.
        change = [jittered * _between(-most, most, factor) for most, factor in zip(a.jitter, factors, strict=True)]
        drawn["jitter"] = torch.stack([1 + change[0], 1 + change[1], 1 + change[2], change[3]], 1)
        drawn["jitter_order"] = of["jitter"][:, 5:]
    if "grayscale" in of:
        drawn["grayscale"] = _happens(a.grayscale, of["grayscale"])
    return drawn


def _columns(a: Augmentation) -> dict[str, int]:
    """How many uniform numbers each step in use takes."""
    moves = (a.rotation, a.translation, a.scale, a.shear) != (0, 0, (1, 1), 0)
    widths = {
        "affine": 6 * moves,
        "crop": (2 * TRIES + 2) * (a.crop_scale is not None),
        "horizontal_flip": int(a.horizontal_flip > 0),
        "vertical_flip": int(a.vertical_flip > 0),
        "jitter": 9 * (a.jitter is not None),
        "grayscale": int(a.grayscale > 0),
    }
    return {step: width for step, width in widths.items() if width}


def _between(low: float, high: float, uniform: Tensor) -> Tensor:
    return low + (high - low) * uniform


def _happens(probability: float, uniform: Tensor) -> Tensor:
    """1 with the probability, else 0, `(B,)` from `(B,)` or `(B, 1)`."""
    return (uniform < probability).float().flatten()


def _crop_box(
    scale: tuple[float, float], ratio: tuple[float, float], uniforms: Tensor, height: int, width: int
) -> Tensor:
    """Boxes `(B, 4)` of whole pixels, as fractions of the sides: the law of torchvision's RandomResizedCrop.

    Of ten pairs (area, log ratio), uniform in their ranges, the first whose sides, rounded, fit into the image; if
    none fits, the largest box of an admitted ratio. The place is uniform among those where the box lies inside.
    """
    areas, ratios, place = uniforms.split([TRIES, TRIES, 2], 1)
    area = height * width * _between(*scale, areas)
    aspect = _between(math.log(ratio[0]), math.log(ratio[1]), ratios).exp()
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.int().argmax(1, keepdim=True)  # the first of equals
    aspect_of_largest = min(max(width / height, ratio[0]), ratio[1])
    largest = (min(width, round(height * aspect_of_largest)), min(height, round(width / aspect_of_largest)))
    some_fits = fits.any(1)
    w, h = (
        torch.where(some_fits, side.gather(1, first).squeeze(1), float(max(1, fallback)))
        for side, fallback in zip((widths, heights), largest, strict=True)
    )
    left, top = (place[:, 0] * (width - w + 1)).floor(), (place[:, 1] * (height - h + 1)).floor()
    return torch.stack([left / width, top / height, w / width, h / height], 1)
