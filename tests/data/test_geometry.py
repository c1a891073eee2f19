"""Maps of views against kornia's operations, at the parameters that kornia drew."""

import math

import pytest
import torch
from kornia import augmentation as kornia
from kornia.geometry.transform import warp_affine
from torch import Tensor
from torch.nn import functional

from pyro_simvae.data.geometry import Map, resample, source_map
from pyro_simvae.data.random_parameters import Drawn

COUNT, HEIGHT, WIDTH = 40, 14, 21
SHAPE = torch.Size((COUNT, 2, HEIGHT, WIDTH))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def affine() -> tuple[kornia.RandomAffine, Drawn, Drawn]:
    """The operation, what it drew, and that in our terms."""
    operation = kornia.RandomAffine(70.0, (0.2, 0.2), (0.7, 1.4), (-25.0, 25.0, -25.0, 25.0), p=1.0)
    drawn = operation.forward_parameters(SHAPE)
    ours = {
        "rotation": drawn["angle"],
        "translation": drawn["translations"] / torch.tensor([WIDTH, HEIGHT]),
        "scale": drawn["scale"][:, 0],
        "shear": torch.stack([drawn["shear_x"], drawn["shear_y"]], 1),
    }
    return operation, drawn, {name: value.double() for name, value in ours.items()}


def crop() -> tuple[kornia.RandomResizedCrop, Drawn, Drawn]:
    operation = kornia.RandomResizedCrop((HEIGHT, WIDTH), scale=(0.2, 1.0), p=1.0, cropping_mode="resample")
    drawn = operation.forward_parameters(SHAPE)
    first, last = drawn["src"][:, 0].double(), drawn["src"][:, 2].double()
    sides = torch.tensor([WIDTH, HEIGHT])
    return operation, drawn, {"crop_box": torch.cat([first / sides, (last - first + 1) / sides], 1)}


def views(images: Tensor, parameters: Drawn) -> Tensor:
    source = source_map(parameters, HEIGHT, WIDTH)
    assert source is not None
    return resample(images, source).squeeze(2)


def test_an_affine_step_is_kornias(images: Tensor) -> None:
    operation, drawn, parameters = affine()
    assert torch.allclose(views(images, parameters), operation(images, params=drawn), atol=1e-5)


def test_a_crop_is_kornias(images: Tensor) -> None:
    operation, drawn, parameters = crop()
    assert torch.allclose(views(images, parameters), operation(images, params=drawn), atol=1e-5)


def test_flips_are_exact(images: Tensor) -> None:
    across, down = (torch.arange(COUNT) % 2).double(), (torch.arange(COUNT) // 2 % 2).double()
    source = source_map({"horizontal_flip": across, "vertical_flip": down}, HEIGHT, WIDTH)
    assert source is not None
    flipped = resample(images.float(), Map(*(part.float() for part in source)), "nearest").squeeze(2)
    for i in range(COUNT):
        dims = [d for d, flip in ((-1, across[i]), (-2, down[i])) if flip]
        assert torch.equal(flipped[i], images[i].float().flip(dims))


def test_a_flipped_crop_is_a_crop_flipped(images: Tensor) -> None:
    operation, drawn, parameters = crop()
    always = torch.ones(COUNT).double()
    both = views(images, parameters | {"horizontal_flip": always, "vertical_flip": always})
    assert torch.allclose(both, operation(images, params=drawn).flip((-1, -2)), atol=1e-5)


def test_a_crop_of_a_moved_image_is_one_interpolation_of_both(images: Tensor) -> None:
    """kornia interpolates at every step; its matrices, composed and applied once, are the reference."""
    first, drawn_first, moved = affine()
    second, drawn_second, cropped = crop()
    first(images, params=drawn_first)
    second(images, params=drawn_second)
    matrix = second.transform_matrix @ first.transform_matrix
    expected = warp_affine(images, matrix[:, :2], (HEIGHT, WIDTH), align_corners=True)
    assert torch.allclose(views(images, moved | cropped), expected, atol=1e-5)


def test_one_interpolation_is_sharper_than_two() -> None:
    """Of a linear ramp both are exact, of a fine pattern only the composed map keeps the contrast."""
    stripes = (torch.arange(64) % 4 < 2).double().expand(1, 1, 64, 64).contiguous()
    turn = {
        "rotation": torch.tensor([7.0]).double(),
        "translation": torch.zeros(1, 2).double(),
        "scale": torch.ones(1).double(),
        "shear": torch.zeros(1, 2).double(),
    }
    box = {"crop_box": torch.tensor([[16, 16, 31, 31]]).double() / 64}

    def view(image: Tensor, parameters: Drawn) -> Tensor:
        source = source_map(parameters, 64, 64)
        assert source is not None
        return resample(image, source)[:, :, 0]

    assert view(stripes, turn | box).std() > 1.1 * view(view(stripes, turn), box).std()


def test_views_of_an_item_are_those_of_its_copies(images: Tensor) -> None:
    _, _, parameters = affine()
    source = source_map(parameters, HEIGHT, WIDTH)
    assert source is not None
    shared = resample(images[:10], source)
    assert shared.shape == (10, 2, 4, HEIGHT, WIDTH)
    copies = resample(images[:10].repeat_interleave(4, 0), source)
    assert torch.equal(shared.transpose(1, 2).flatten(0, 1), copies.squeeze(2))


def test_a_known_point_moves_as_the_parameters_say() -> None:
    """Clockwise by 90 degrees, right by two pixels: what was right of the centre is below it, and two to the right."""
    image = torch.zeros(1, 1, 9, 9).double()
    image[0, 0, 4, 7] = 1
    parameters = {
        "rotation": torch.tensor([90.0]).double(),
        "translation": torch.tensor([[2 / 9, 0.0]]).double(),
        "scale": torch.ones(1).double(),
        "shear": torch.zeros(1, 2).double(),
    }
    source = source_map(parameters, 9, 9)
    assert source is not None
    moved = resample(image, source)[0, 0, 0]
    assert math.isclose(moved[7, 6].item(), 1, abs_tol=1e-6)
    assert math.isclose(moved.sum().item(), 1, abs_tol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_images_one_pixel_wide(shape: tuple[int, int]) -> None:
    image = torch.rand(1, 1, *shape)
    whole = source_map({"crop_box": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}, *shape)
    assert whole is not None
    # A scale of 0, there where all is one pixel, takes the pixel itself.
    assert torch.allclose(resample(image, whole)[:, :, 0], image, atol=1e-5)


def test_nothing_to_move() -> None:
    assert source_map({"grayscale": torch.ones(3)}, HEIGHT, WIDTH) is None


def test_a_crop_is_a_resized_patch(images: Tensor) -> None:
    box = torch.tensor([[3 / WIDTH, 2 / HEIGHT, 11 / WIDTH, 7 / HEIGHT]]).double()
    patch = images[:1, :, 2:9, 3:14]
    expected = functional.interpolate(patch, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
    assert torch.allclose(views(images[:1], {"crop_box": box}), expected, atol=1e-9)
