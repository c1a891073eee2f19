"""The augmentations that have a name: each suits a data set, and every step of it can be set otherwise."""

from dataclasses import dataclass

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.errors import unknown_name


@dataclass(frozen=True)
class Crop(Augmentation):
    """For any image: nothing about it but its orientation is assumed."""

    crop_scale: tuple[float, float] | None = (0.4, 1.0)
    horizontal_flip: float = 0.5


@dataclass(frozen=True)
class Digits(Augmentation):
    """Crops alone: digits lose their class when flipped."""

    crop_scale: tuple[float, float] | None = (0.6, 1.0)


@dataclass(frozen=True)
class MNIST(Augmentation):
    """Small affine changes, after which a digit is still the same."""

    rotation: float = 15.0
    translation: float = 0.1
    scale: tuple[float, float] = (0.8, 1.2)
    shear: float = 15.0


@dataclass(frozen=True)
class FashionMNIST(Augmentation):
    """Crops and flips."""

    crop_scale: tuple[float, float] | None = (0.5, 1.0)
    horizontal_flip: float = 0.5


@dataclass(frozen=True)
class CIFAR10(Augmentation):
    """SimCLR's, with its crops of small images."""

    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    horizontal_flip: float = 0.5
    jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    grayscale: float = 0.2


@dataclass(frozen=True)
class CelebA(CIFAR10):
    """SimCLR's, but cropped less, or a view may hold no face."""

    crop_scale: tuple[float, float] | None = (0.4, 1.0)


@dataclass(frozen=True)
class Sprites(Augmentation):
    """Position and size become style, shape and hue stay content."""

    crop_scale: tuple[float, float] | None = (0.5, 1.0)
    horizontal_flip: float = 0.5
    jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.0, 0.0)


@dataclass(frozen=True)
class MNISTPaper(Augmentation):
    """Of Bizeul, Schölkopf and Allen 2024, for runs that compare with the paper."""

    crop_scale: tuple[float, float] | None = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3)
    vertical_flip: float = 0.5
    threshold: float | None = 0.5


@dataclass(frozen=True)
class CIFAR10Paper(Augmentation):
    """Of Bizeul, Schölkopf and Allen 2024, for runs that compare with the paper."""

    crop_scale: tuple[float, float] | None = (0.6, 1.0)
    jitter: tuple[float, float, float, float] | None = (0.8, 0.8, 0.8, 0.2)


PRESETS: dict[str, type[Augmentation]] = {
    "none": Augmentation,
    "crop": Crop,
    "digits": Digits,
    "mnist": MNIST,
    "fashion_mnist": FashionMNIST,
    "cifar10": CIFAR10,
    "celeba": CelebA,
    "sprites": Sprites,
    "mnist_paper": MNISTPaper,
    "cifar10_paper": CIFAR10Paper,
}


def preset(name: str) -> Augmentation:
    """The augmentation called `name`, as it is.

    Raises:
        InputError: If there is none; it offers the nearest.
    """
    if name not in PRESETS:
        raise unknown_name("views", name, PRESETS)
    return PRESETS[name]()
