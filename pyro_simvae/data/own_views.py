"""Views that a module of the user's draws."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.views import Drawn, Views, to_unit_floats
from pyro_simvae.errors import InputError


class OwnAugmentation(nn.Module, ABC):
    """What `--views path/to/views.py` names; the arguments of the constructor are its options."""

    @abstractmethod
    def forward(self, items: Tensor) -> Tensor:
        """One view of each item, drawn anew for each, as kornia's augmentations do.

        Args:
            items: `(B, *event)` float32, images in [0, 1]; an item comes as often as it has views.

        Returns:
            Views of the same shape. What is random comes from torch's generators, so that a seed gives it again.
        """


class OwnViews(Views):
    """As `Views`, by an augmentation of the user's. What it draws is not known, and so not scored.

    Args:
        augmentation: What draws the views.
        event_shape: The shape of one view.
    """

    replayable = False  # it may draw with numbers that no tensor holds, which a graph would keep

    def __init__(self, augmentation: OwnAugmentation, event_shape: tuple[int, ...]) -> None:
        super().__init__(Augmentation(), event_shape)
        self.own = augmentation

    @torch.no_grad()
    def augment(self, images: Tensor, uniforms: Tensor, num_views: int) -> tuple[Tensor, Drawn]:
        """The views x (n, J, *event), float32, and nothing of what they were drawn with.

        Args:
            images, num_views: As for `Views`.
            uniforms: None are taken.

        Raises:
            InputError: As for `Views`; the augmentation gives another shape or kind of numbers.
        """
        self._check(images, num_views)
        items = to_unit_floats(images).expand(len(images), num_views, *self.event_shape).flatten(0, 1)
        x = self.own(items)
        if not isinstance(x, Tensor) or x.shape != items.shape or x.dtype != items.dtype:
            found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"{type(self.own).__name__} makes {found} of {items.dtype} {tuple(items.shape)}: "
                "views should have the shape and kind of what they are drawn from"
            )
        # Interpolation may leave [0, 1] by a rounding error, which a Bernoulli likelihood refuses.
        x = x.clamp(0, 1) if len(self.event_shape) == 3 else x
        return x.view(len(images), num_views, *self.event_shape), {}
