import pytest

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.presets import MNISTPaper, preset
from pyro_simvae.errors import InputError


def test_presets_are_found_by_name() -> None:
    assert preset("mnist_paper") == MNISTPaper()
    assert preset("none") == Augmentation()
    with pytest.raises(InputError, match="unknown views 'cifar': did you mean cifar10"):
        preset("cifar")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rotation": 200.0}, "rotation must"),
        ({"translation": 1.0}, "translation must"),
        ({"scale": (0.0, 1.0)}, "scale must"),
        ({"scale": (1.2, 0.8)}, "scale must"),
        ({"shear": 90.0}, "shear must"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale must"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale must"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio must"),
        ({"horizontal_flip": 1.5}, "horizontal_flip must"),
        ({"vertical_flip": -0.1}, "vertical_flip must"),
        ({"jitter": (1.1, 0.0, 0.0, 0.0)}, "jitter must"),
        ({"jitter": (-0.1, 0.0, 0.0, 0.0)}, "jitter must"),
        ({"jitter": (0.0, 0.0, 0.0, 0.6)}, "jitter of the hue must"),
        ({"jitter_probability": 2.0}, "jitter_probability must"),
        ({"grayscale": 2.0}, "grayscale must"),
        ({"threshold": 1.5}, "threshold must"),
    ],
)
def test_values_out_of_range(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Augmentation(**options)  # type: ignore[arg-type]
