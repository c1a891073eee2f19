"""Uniform numbers become parameters: in their ranges, by the law of kornia's and torchvision's generators."""

import math

import pytest
import torch
from kornia import augmentation as kornia
from scipy.stats import ks_2samp
from torch import Tensor

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.random_parameters import num_uniforms, parameters_of

COUNT = 4000
HEIGHT, WIDTH = 24, 40


def drawn_by(augmentation: Augmentation, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return parameters_of(augmentation, torch.rand(COUNT, num_uniforms(augmentation)), height, width)


def kornias(operation: kornia.AugmentationBase2D, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return operation.forward_parameters(torch.Size((COUNT, 3, height, width)))


def same_law(ours: Tensor, theirs: Tensor) -> bool:
    """Kolmogorov and Smirnov's two-sample test, which a true hypothesis fails once in a thousand seeds."""
    return ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


def test_the_test_of_laws_tells_them_apart() -> None:
    assert same_law(torch.rand(COUNT), torch.rand(COUNT))
    assert not same_law(torch.rand(COUNT), 1.1 * torch.rand(COUNT))


def test_an_affine_step_draws_as_kornia() -> None:
    ours = drawn_by(Augmentation(rotation=15.0, translation=0.1, scale=(0.8, 1.2), shear=20.0))
    theirs = kornias(kornia.RandomAffine(15.0, (0.1, 0.1), (0.8, 1.2), (-20.0, 20.0, -20.0, 20.0), p=1.0))
    assert list(ours) == ["rotation", "translation", "scale", "shear"]
    assert same_law(ours["rotation"], theirs["angle"])
    assert same_law(ours["scale"], theirs["scale"][:, 0])
    for axis, (side, shear) in enumerate(((WIDTH, "shear_x"), (HEIGHT, "shear_y"))):
        assert same_law(ours["translation"][:, axis], theirs["translations"][:, axis] / side)
        assert same_law(ours["shear"][:, axis], theirs[shear])
    # Each has a number of its own.
    columns = torch.cat([value.reshape(COUNT, -1) for value in ours.values()], 1).T
    correlations = torch.corrcoef(columns) - torch.eye(6)
    assert correlations.abs().max() < 0.08


@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.9, 1.0)])
def test_crops_have_the_law_of_kornias(scale: tuple[float, float]) -> None:
    box = drawn_by(Augmentation(crop_scale=scale))["crop_box"]
    src = kornias(kornia.RandomResizedCrop((HEIGHT, WIDTH), scale=scale, ratio=(3 / 4, 4 / 3)))["src"]
    first, sides = src[:, 0], src[:, 2] - src[:, 0] + 1
    theirs = torch.cat([first, sides], 1) / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    for ours, reference in zip(box.unbind(1), theirs.unbind(1), strict=True):
        assert same_law(ours, reference)
    assert same_law(box[:, 2] * box[:, 3], theirs[:, 2] * theirs[:, 3])
    assert same_law(box[:, 2] / box[:, 3], theirs[:, 2] / theirs[:, 3])


def torchvisions_box(uniforms: list[float], a: Augmentation, height: int, width: int) -> list[float]:
    """RandomResizedCrop.get_params, with its random numbers given."""
    assert a.crop_scale is not None
    areas, ratios, (x, y) = uniforms[:10], uniforms[10:20], uniforms[20:]
    narrow, wide = a.crop_ratio
    for area, ratio in zip(areas, ratios, strict=True):
        target = height * width * (a.crop_scale[0] + (a.crop_scale[1] - a.crop_scale[0]) * area)
        aspect = math.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * ratio)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w, h = width, height
        if width / height < narrow:
            h = round(w / narrow)
        elif width / height > wide:
            w = round(h * wide)
    return [int(x * (width - w + 1)) / width, int(y * (height - h + 1)) / height, w / width, h / height]


@pytest.mark.parametrize(
    ("augmentation", "height", "width"),
    [
        (Augmentation(crop_scale=(0.2, 1.0)), 32, 32),
        (Augmentation(crop_scale=(0.9, 1.0)), 24, 40),  # most pairs do not fit
        (Augmentation(crop_scale=(0.95, 1.0)), 20, 40),  # none fits, the image is too wide
        (Augmentation(crop_scale=(0.95, 1.0)), 40, 20),  # none fits, the image is too narrow
        (Augmentation(crop_scale=(0.001, 0.01), crop_ratio=(0.9, 1.1)), 10, 10),  # most are no pixel wide
    ],
)
def test_a_crop_is_the_first_that_fits(augmentation: Augmentation, height: int, width: int) -> None:
    uniforms = torch.rand(500, num_uniforms(augmentation), generator=torch.Generator().manual_seed(0))
    boxes = parameters_of(augmentation, uniforms, height, width)["crop_box"]
    expected = [torchvisions_box(row, augmentation, height, width) for row in uniforms.tolist()]
    assert torch.allclose(boxes, torch.tensor(expected), atol=1e-6)


def test_extreme_numbers_keep_crops_inside() -> None:
    augmentation = Augmentation(crop_scale=(0.2, 1.0))
    for value in (0.0, 1 - 2**-24):
        uniforms = torch.full((1, num_uniforms(augmentation)), value)
        for side in range(1, 70):
            left, top, width, height = parameters_of(augmentation, uniforms, side, side)["crop_box"][0].tolist()
            assert min(left, top) >= 0
            assert min(width, height) * side > 0.99
            assert max(left + width, top + height) <= 1 + 1e-6


def test_jitter_draws_as_kornia() -> None:
    strengths = (0.4, 0.3, 0.2, 0.1)
    ours = drawn_by(Augmentation(jitter=strengths))
    theirs = kornias(kornia.ColorJitter(*strengths, p=1.0))
    for k, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert same_law(ours["jitter"][:, k], theirs[f"{name}_factor"])
    assert torch.corrcoef(torch.cat([ours["jitter"], ours["jitter_order"]], 1).T).sub(torch.eye(8)).abs().max() < 0.08
    orders = ours["jitter_order"].argsort(1)
    assert len(orders.unique(dim=0)) == 24


def test_what_happens_with_a_probability() -> None:
    ours = drawn_by(
        Augmentation(horizontal_flip=0.5, vertical_flip=0.3, jitter=(0.4,) * 4, jitter_probability=0.8, grayscale=0.2)
    )
    jittered = (ours["jitter"] != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1).float()
    happened = {name: ours[name] for name in ("horizontal_flip", "vertical_flip", "grayscale")} | {"jitter": jittered}
    probabilities = {"horizontal_flip": 0.5, "vertical_flip": 0.3, "grayscale": 0.2, "jitter": 0.8}
    for name, probability in probabilities.items():
        assert set(happened[name].tolist()) == {0.0, 1.0}
        assert abs(happened[name].mean() - probability) < 4 * math.sqrt(probability * (1 - probability) / COUNT)
    always = drawn_by(Augmentation(horizontal_flip=1.0, jitter=(0.4,) * 4, jitter_probability=0.0))
    assert always["horizontal_flip"].min() == 1
    assert torch.equal(always["jitter"], torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(COUNT, 4))


def test_a_view_is_a_function_of_its_row() -> None:
    augmentation = Augmentation(
        rotation=9.0, crop_scale=(0.5, 1.0), vertical_flip=0.5, jitter=(0.1,) * 4, grayscale=0.5
    )
    uniforms = torch.rand(6, num_uniforms(augmentation))
    together = parameters_of(augmentation, uniforms, HEIGHT, WIDTH)
    for row in range(6):
        alone = parameters_of(augmentation, uniforms[row : row + 1], HEIGHT, WIDTH)
        for name, value in together.items():
            assert torch.equal(alone[name][0], value[row])


def test_no_step_takes_no_number() -> None:
    assert num_uniforms(Augmentation()) == 0
    assert parameters_of(Augmentation(), torch.empty(5, 0), 8, 8) == {}
