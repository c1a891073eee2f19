"""Steps on the colours of a batch of views, each view with its own numbers.

Images are `(n, 3, J, H, W)`, RGB in [0, 1], and change in place; numbers of the views are `(n, J)`. Masks are numbers too:
to multiply by them is many times faster than to select, and no value is looked at on the host.

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
        x: images.
        factors: `(n, J, 4)`: of brightness, contrast and saturation, and the hue's turn as a fraction of a circle.
        order: `(n, J, 4)`: the four steps act by ascending value.
        turns: False leaves the hue's turn out, where all are zero.
    """
    used = 4 if turns else 3
    rank = order[..., :used].argsort(-1).argsort(-1)
    change = factors[..., :3] - 1

    def blend_at(place: int, of_side: Tensor | None) -> None:
        now = rank[..., :3] == place
        acting = change * (now if of_side is None else now & of_side)
        blend(x, 1 + acting.sum(-1), mean=-acting[..., 1], luma=-acting[..., 2])

    if not turns:
        for place in (0, 1, 2):
            blend_at(place, None)
        return x
    turn = rank[..., 3:]
    for place in (0, 1, 2):
        blend_at(place, turn > place)
    turn_hue(x, factors[..., 3])
    for place in (1, 2, 3):
        blend_at(place, turn < place)
    return x


def blend(x: Tensor, factor: Tensor, *, luma: Tensor, mean: Tensor | None = None) -> Tensor:
    """x <- clamp(factor x + luma Y + mean average(Y), 0, 1), with Y the luma of each pixel (ITU-R BT.601)."""
    red, green, blue = x.unbind(1)
    other = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    if mean is None:
        other.mul_(_each(luma))
    else:
        average = other.mean((-2, -1), keepdim=True)
        other.mul_(_each(luma)).add_(average * _each(mean))
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


def _each(value: Tensor) -> Tensor:
    """A number for each view `(n, J)`, against planes `(n, J, H, W)`."""
    return value[..., None, None]
