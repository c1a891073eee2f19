"""Steps on the colours of a batch of views, each view with its own numbers.

Images are `(n, 3, J, H, W)`, RGB in [0, 1], and change in place; a number for each view is `(n, J)`. Masks are numbers
too: to multiply by them is many times faster than to select. No value is looked at on the host.

Brightness, contrast, saturation and grayscale are one operation: an image is blended with a duller one,

    x <- clamp(f x + (1 - f) o, 0, 1),    o = black, its mean luma, its luma, its luma (f = 0).

Conventions are PIL's, as in torchvision and kornia.
"""

import torch
from torch import Tensor


def jitter(x: Tensor, factors: Tensor, order: Tensor, turns: bool = True) -> Tensor:
    """Blends images and turns their hue, each view in an order of its own, as torchvision's ColorJitter.

    The hue's turn costs most and is done once. Each of the three blends comes before it or after it, at one of three
    places on either side; at a place where none has its turn, f = 1 leaves the image as it is.

    Args:
        x: images, changed in place.
        factors: `(n, J, 4)`: of brightness, contrast and saturation, and the hue's turn as a fraction of a circle.
        order: `(n, J, 4)`: the four steps act by ascending value.
        turns: False where all turns are zero, which saves the time for them.

    Returns:
        x.
    """
    if not turns:  # last, and then not at all
        order = torch.cat([order[..., :3], torch.full_like(order[..., :1], torch.inf)], -1)
    rank = order.argsort(-1).argsort(-1)
    blends, turn = rank[..., :3], rank[..., 3:]
    for place in (0, 1, 2):
        _blend_some(x, factors, (blends == place) & (place < turn))
    if turns:
        turn_hue(x, factors[..., 3])
        for place in (1, 2, 3):
            _blend_some(x, factors, (blends == place) & (place > turn))
    return x


def blend(x: Tensor, factor: Tensor, *, luma: Tensor, mean: Tensor | None = None) -> Tensor:
    """x <- clamp(factor x + luma Y + mean average(Y), 0, 1), with Y the luma of each pixel (ITU-R BT.601)."""
    red, green, blue = x.unbind(1)
    pixel_luma = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    other = pixel_luma * _each(luma)
    if mean is not None:
        other.add_(pixel_luma.mean((-2, -1), keepdim=True) * _each(mean))
    return x.mul_(_each(factor)[:, None]).add_(other[:, None]).clamp_(0, 1)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Images whose hue, in HSV, is turned by a fraction `(n, J)` of a circle.

    With h the hue in sextants, a colour is, by channel, low + (high - low) clamp(p, 0, 1) at

        p = |h - 3| - 1  (red),    2 - |h - 2|  (green),    2 - |h - 4|  (blue),    0 <= h < 6.

    The hue of a grey pixel is that of red, and shows nowhere.
    """
    red, green, blue = x.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # Which channel is the highest, the first of equals; from it the hue lies at most one sextant away.
    is_red = (red - high).eq_(0)
    is_green = (green - high).eq_(0).mul_(1 - is_red)
    is_blue = (1 - is_red).sub_(is_green)
    hue = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    hue.div_(chroma.clamp(min=1e-12)).add_(is_green, alpha=2).add_(is_blue, alpha=4).add_(6 * _each(turn))
    hue.sub_((hue / 6).floor_(), alpha=6)
    red.copy_(hue).sub_(3).abs_().sub_(1)
    green.copy_(hue).sub_(2).abs_().neg_().add_(2)
    blue.copy_(hue).sub_(4).abs_().neg_().add_(2)
    return x.clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])


def _blend_some(x: Tensor, factors: Tensor, which: Tensor) -> None:
    """A blend of each view, brightness, contrast or saturation `(n, J, 3)` bool, or none."""
    change = (factors[..., :3] - 1) * which
    blend(x, 1 + change.sum(-1), mean=-change[..., 1], luma=-change[..., 2])


def _each(value: Tensor) -> Tensor:
    """A number for each view `(n, J)`, against planes `(n, J, H, W)`."""
    return value[..., None, None]
