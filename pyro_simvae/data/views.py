"""Drawing the J views of every group at once, on the device of the images."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyro_simvae.data.augmentation import PRESETS, Augmentation, preset
from pyro_simvae.errors import InputError

if TYPE_CHECKING:
    from kornia.augmentation import AugmentationBase2D

__all__ = ["PRESETS", "Augmentation", "Views", "preset"]

Drawn = dict[str, Tensor]
"""Parameters drawn for a batch of images, each (B, ...)."""

Step = tuple["AugmentationBase2D", Callable[[Drawn], Drawn]]
"""A kornia operation, and how its parameters read in the terms of `Views.forward`."""


class Views(nn.Module):
    """The views of a batch of groups, and the parameters that they were drawn with.

    All randomness comes from torch's global CPU generator (kornia draws there and moves the numbers over), so
    that a seed gives the same augmentation on every device.

    Args:
        augmentation: What is done to one view.
        event_shape: The shape of one view, (C, H, W) for images, (P,) for vectors.

    Raises:
        InputError: If vectors are to be augmented, or colour steps are asked of images that are not RGB.
    """

    def __init__(self, augmentation: Augmentation, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.event_shape = tuple(event_shape)
        if len(event_shape) != 3:
            if augmentation != Augmentation():
                raise InputError("vectors have no image augmentation; take the view preset none")
            self._steps: list[Step] = []
            return
        if event_shape[0] != 3 and (augmentation.jitter is not None or augmentation.grayscale > 0):
            raise InputError(
                f"colour jitter and grayscale need images with 3 channels, these have {event_shape[0]}; "
                f"take a view preset without them, for example crop"
            )
        # A plain list: kornia's modules would fill a checkpoint with buffers that only repeat the settings.
        self._steps = _image_steps(augmentation, event_shape[1], event_shape[2])

    @torch.no_grad()
    def forward(self, images: Tensor, num_views: int) -> tuple[Tensor, Drawn]:
        """Draw the views.

        Args:
            images: (n, K, *event): K = 1, an item that every view of its group is drawn from, or K = J, an
                item for each view. uint8 in [0, 255] or float in [0, 1]; real for vectors.
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
        n, given = images.shape[:2]
        if tuple(images.shape[2:]) != self.event_shape:
            raise InputError(
                f"views are set up for items of shape {self.event_shape}, got {tuple(images.shape[2:])}; "
                f"use the data set that the run was made for"
            )
        if given not in (1, num_views):
            raise InputError(
                f"the data draws {given} views a group, not {num_views}; set the number of views to {given}"
            )
        x = _to_unit_floats(images).expand(n, num_views, *self.event_shape)

        parameters: Drawn = {}
        flat = x.reshape(-1, *self.event_shape)
        for operation, read in self._steps:
            drawn = operation.forward_parameters(flat.shape)
            flat = operation(flat, params=drawn)
            for name, value in read(drawn).items():
                parameters[name] = value.to(flat.device, torch.float32).view(n, num_views, *value.shape[1:])
        return self._finish(flat.view(n, num_views, *self.event_shape)), parameters

    @torch.no_grad()
    def plain(self, images: Tensor) -> Tensor:
        """Images (n, *event) as the networks see them, unaugmented: float32, thresholded if the views are."""
        return self._finish(_to_unit_floats(images))

    def _finish(self, x: Tensor) -> Tensor:
        if len(self.event_shape) != 3:
            return x
        threshold = self.augmentation.threshold
        # Interpolation may leave [0, 1] by a rounding error, which a Bernoulli likelihood refuses.
        return x.clamp(0, 1) if threshold is None else (x > threshold).float()


def _to_unit_floats(images: Tensor) -> Tensor:
    return images.float().div(255) if images.dtype == torch.uint8 else images.float()


def _image_steps(augmentation: Augmentation, height: int, width: int) -> list[Step]:
    """The augmentation's steps that are in use, in order."""
    from kornia import augmentation as kornia

    sides = torch.tensor([width, height])

    def affine(drawn: Drawn) -> Drawn:
        shear = torch.stack([drawn["shear_x"], drawn["shear_y"]], dim=1)
        used = {"rotation": drawn["angle"], "translation": drawn["translations"] / sides}
        return used | {"scale": drawn["scale"][:, 0], "shear": shear}

    def crop_box(drawn: Drawn) -> Drawn:
        # kornia gives the centres of the corner pixels, clockwise from the top left; both belong to the crop.
        first, last = drawn["src"][:, 0], drawn["src"][:, 2]
        return {"crop_box": torch.cat([first / sides, (last - first + 1) / sides], dim=1)}

    def factors(drawn: Drawn) -> Drawn:
        names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
        applied = drawn["batch_prob"][:, None] > 0.5
        unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0])
        return {"jitter": torch.where(applied, torch.stack([drawn[name] for name in names], dim=1), unchanged)}

    def applied(name: str) -> Callable[[Drawn], Drawn]:
        return lambda drawn: {name: drawn["batch_prob"]}

    a = augmentation
    steps: list[Step] = []
    if (a.rotation, a.translation, a.scale, a.shear) != (0, 0, (1, 1), 0):
        shift = (a.translation, a.translation)
        shear = (-a.shear, a.shear, -a.shear, a.shear)
        steps.append((kornia.RandomAffine(a.rotation, shift, a.scale, shear, p=1.0), affine))
    if a.crop_scale is not None:
        # Resampling crops the whole batch in one go; kornia's default loops over the images.
        crop = kornia.RandomResizedCrop(
            (height, width), scale=a.crop_scale, ratio=a.crop_ratio, p=1.0, cropping_mode="resample"
        )
        steps.append((crop, crop_box))
    if a.horizontal_flip > 0:
        steps.append((kornia.RandomHorizontalFlip(p=a.horizontal_flip), applied("horizontal_flip")))
    if a.vertical_flip > 0:
        steps.append((kornia.RandomVerticalFlip(p=a.vertical_flip), applied("vertical_flip")))
    if a.jitter is not None:
        steps.append((kornia.ColorJitter(*a.jitter, p=a.jitter_probability), factors))
    if a.grayscale > 0:
        steps.append((kornia.RandomGrayscale(p=a.grayscale), applied("grayscale")))
    return steps
