"""Drawing the J views of every group at once, on the device of the images."""

import torch
from torch import Tensor, nn

from pyro_simvae.data import colour
from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.geometry import resample, source_map
from pyro_simvae.data.random_parameters import Drawn, num_uniforms, parameters_of
from pyro_simvae.errors import InputError

__all__ = ["Drawn", "Views"]


class Views(nn.Module):
    """The views of a batch of groups, and the parameters that they were drawn with.

    To draw views is two steps. `draw` takes all randomness of a batch from torch's global CPU generator, so that a
    seed gives the same augmentation on every device. `augment` is a function of the images and these numbers: tensor
    operations of static shapes on the images' device, which a CUDA graph can capture.

    Args:
        augmentation: What is done to one view.
        event_shape: The shape of one view, (C, H, W) for images, (P,) for vectors.

    Raises:
        InputError: If vectors are to be augmented, or colour steps are asked of images that are not RGB.
    """

    replayable = True
    """Whether `augment` is its tensor operations, so that to repeat these is to draw anew."""

    def __init__(self, augmentation: Augmentation, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.event_shape = tuple(event_shape)
        self.num_uniforms = num_uniforms(augmentation)
        """Uniform numbers that a view takes."""
        if len(event_shape) != 3:
            if self.num_uniforms or augmentation.threshold is not None:
                raise InputError("vectors have no image augmentation: use --views none")
        elif event_shape[0] != 3 and (augmentation.jitter is not None or augmentation.grayscale > 0):
            raise InputError(
                f"colour jitter and grayscale need images with 3 channels, these have {event_shape[0]}: "
                "use --views.jitter null and --views.grayscale 0, or --views crop"
            )

    def forward(self, images: Tensor, num_views: int) -> tuple[Tensor, Drawn]:
        """Draw and augment in one; see `augment`."""
        uniforms = self.draw(len(images), num_views)
        return self.augment(images, uniforms.to(images.device, non_blocking=True), num_views)

    def draw(self, num_groups: int, num_views: int) -> Tensor:
        """The randomness of a batch: (num_groups J, num_uniforms), uniform in [0, 1), on the CPU."""
        return torch.rand(num_groups * num_views, self.num_uniforms)

    @torch.no_grad()
    def augment(self, images: Tensor, uniforms: Tensor, num_views: int) -> tuple[Tensor, Drawn]:
        """The views that the numbers give.

        All steps that move pixels are one map, interpolated once (bilinear, black beyond the edge). The four steps of
        the jitter act in an order drawn for each view.

        Args:
            images: (n, K, *event): K = 1, an item that every view of its group is drawn from, or K = J, an
                item for each view. uint8 in [0, 255] or float in [0, 1]; real for vectors.
            uniforms: As from `draw`, on the images' device.
            num_views: J.

        Returns:
            The views x (n, J, *event), float32, images in [0, 1].
            The parameters of the steps in use. "rotation" (n, J): degrees clockwise. "translation" (n, J, 2):
            rightwards and downwards, as fractions of the sides. "scale" (n, J): the magnification. "shear" (n, J,
            2): degrees by which the upright axis leans to the right, and after that the level axis upwards.
            "crop_box" (n, J, 4): left, top, width and height, as fractions of the sides. "horizontal_flip",
            "vertical_flip", "grayscale" (n, J): 0 or 1. "jitter" (n, J, 4): factors of brightness, contrast and
            saturation, and the hue's turn as a fraction of a circle; (1, 1, 1, 0) if not jittered.

        Raises:
            InputError: If K is neither 1 nor J, or the items do not have this module's event shape.
        """
        self._check(images, num_views)
        n, given = images.shape[:2]
        x = to_unit_floats(images)
        if len(self.event_shape) != 3:
            return x.expand(n, num_views, *self.event_shape), {}
        parameters = parameters_of(self.augmentation, uniforms, *self.event_shape[1:])
        # An item's views come third, (n K, C, J / K, H, W), so that it is converted and read once for all of them.
        x = self._moved(x.flatten(0, 1), parameters, num_views // given)
        x = self._finish(self._coloured(x, parameters))
        parameters.pop("jitter_order", None)
        of_views = {name: value.unflatten(0, (n, num_views)) for name, value in parameters.items()}
        return x.transpose(1, 2).contiguous().view(n, num_views, *self.event_shape), of_views

    @torch.no_grad()
    def plain(self, images: Tensor) -> Tensor:
        """Images (n, *event) as the networks see them, unaugmented: float32, thresholded if the views are."""
        x = to_unit_floats(images)
        return self._finish(x) if len(self.event_shape) == 3 else x

    def _check(self, images: Tensor, num_views: int) -> None:
        given, event_shape = images.shape[1], tuple(images.shape[2:])
        if event_shape != self.event_shape:
            raise InputError(
                f"views are set up for items of shape {self.event_shape}, got {event_shape}: "
                "use the data set that the run was made for"
            )
        if given not in (1, num_views):
            raise InputError(f"the data draws {given} views a group, not {num_views}: use --training.num_views {given}")

    def _moved(self, items: Tensor, parameters: Drawn, views_an_item: int) -> Tensor:
        """Items (n K, C, H, W) to new images (n K, C, J / K, H, W)."""
        source = source_map(parameters, *self.event_shape[1:])
        if source is None:
            return items[:, :, None].expand(-1, -1, views_an_item, -1, -1).clone()
        # Flips alone move whole pixels.
        return resample(items, source, "bilinear" if {"crop_box", "rotation"} & parameters.keys() else "nearest")

    def _coloured(self, x: Tensor, parameters: Drawn) -> Tensor:
        """Images (n K, C, J / K, H, W), in place."""
        of_views = {name: value.unflatten(0, (len(x), x.shape[2])) for name, value in parameters.items()}
        if self.augmentation.jitter is not None:
            turns = self.augmentation.jitter[3] > 0
            colour.jitter(x, of_views["jitter"], of_views["jitter_order"], turns)
        if "grayscale" in of_views:
            colour.blend(x, 1 - of_views["grayscale"], luma=of_views["grayscale"])
        return x

    def _finish(self, x: Tensor) -> Tensor:
        """Images in place."""
        threshold = self.augmentation.threshold
        # Interpolation may leave [0, 1] by a rounding error, which a Bernoulli likelihood refuses.
        return x.clamp_(0, 1) if threshold is None else (x > threshold).float()


def to_unit_floats(images: Tensor) -> Tensor:
    """Images as the networks see them: a copy, float32."""
    x = images.to(torch.float32, copy=True)
    return x.div_(255) if images.dtype == torch.uint8 else x
