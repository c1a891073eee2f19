"""What one view's augmentation is."""

from abc import ABC
from dataclasses import dataclass

from pyro_simvae.errors import InputError


# An ABC, as jsonargparse takes a dataclass alone for one that has no subclasses.
@dataclass(frozen=True)
class Augmentation(ABC):  # noqa: B024
    """How a view is drawn from an image. The steps act in the order of the fields; those that move pixels, from the
    rotation to the flips, are composed, and the image is interpolated once. Subclasses are other defaults (`presets`).

    Args:
        rotation: Largest angle, in degrees up to 180, in either direction; black moves in.
        translation: Largest shift, in either direction, as a fraction of the side, in [0, 1); black moves in.
        scale: Least and largest factor that the image is magnified by about its centre, positive; black moves in.
        shear: Largest angle, in degrees below 90, by which either axis leans in either direction; black moves in.
        crop_scale: Least and largest area of a random crop, as fractions of the image, in (0, 1]. The crop is
            scaled back to the image's size.
        crop_ratio: Least and largest width / height of the crop.
        horizontal_flip: Probability to swap left and right.
        vertical_flip: Probability to swap top and bottom.
        jitter: Strengths (brightness, contrast, saturation, hue), in [0, 1]. The first three multiply by a
            factor between 1 - strength and 1 + strength; the hue turns by at most its strength, up to 0.5, as
            a fraction of a circle. The order of the four is drawn for each view.
        jitter_probability: Probability that a view is jittered at all.
        grayscale: Probability to drop the colour.
        threshold: Pixels above it become 1 and the others 0, in plain images too; in [0, 1].

    Raises:
        InputError: If a value is outside its range.
    """

    rotation: float = 0.0
    translation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    jitter: tuple[float, float, float, float] | None = None
    jitter_probability: float = 1.0
    grayscale: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "crop_scale", "crop_ratio", "jitter"):
            if isinstance(value := getattr(self, name), list):  # as YAML has them
                object.__setattr__(self, name, tuple(value))
        small, large = self.scale
        least, most = self.crop_scale or (1.0, 1.0)
        narrow, wide = self.crop_ratio
        strengths = self.jitter or (0.0, 0.0, 0.0, 0.0)
        for valid, rule in (
            (0 <= self.rotation <= 180, "rotation must lie between 0 and 180 degrees"),
            (0 <= self.translation < 1, "translation must be at least 0 and below 1"),
            (0 < small <= large, "scale must be two ascending positive numbers"),
            (0 <= self.shear < 90, "shear must be at least 0 and below 90 degrees"),
            (0 < least <= most <= 1, "crop_scale must be two ascending fractions in (0, 1]"),
            (0 < narrow <= wide, "crop_ratio must be two ascending positive numbers"),
            (0 <= self.horizontal_flip <= 1, "horizontal_flip must be a probability"),
            (0 <= self.vertical_flip <= 1, "vertical_flip must be a probability"),
            (min(strengths) >= 0 and max(strengths) <= 1, "jitter must lie between 0 and 1"),
            (strengths[3] <= 0.5, "jitter of the hue must be at most 0.5"),
            (0 <= self.jitter_probability <= 1, "jitter_probability must be a probability"),
            (0 <= self.grayscale <= 1, "grayscale must be a probability"),
            (self.threshold is None or 0 <= self.threshold <= 1, "threshold must lie between 0 and 1"),
        ):
            if not valid:
                raise InputError(f"views: {rule}")
