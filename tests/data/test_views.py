import math

import kornia
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional

from pyro_simvae.data import PRESETS, Augmentation, Views, preset
from pyro_simvae.data.random_parameters import parameters_of
from pyro_simvae.errors import InputError

COLOUR, GREY = (3, 32, 32), (1, 28, 28)


def smooth_images(count: int, shape: tuple[int, ...]) -> Tensor:
    """Random uint8 images (count, 1, *shape) without sharp edges, on which interpolation rules differ."""
    coarse = torch.rand(count, shape[0], 4, 4)
    fine = functional.interpolate(coarse, shape[1:], mode="bicubic", align_corners=True).clamp(0, 1)
    return (fine[:, None] * 255).round().byte()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("given", [1, 2])
def test_every_preset_gives_unit_floats(name: str, given: int) -> None:
    grey = "mnist" in name or name == "digits"
    shape = GREY if grey else COLOUR
    x, parameters = Views(preset(name), shape)(smooth_images(6, shape).expand(6, given, *shape), 2)
    assert x.shape == (6, 2, *shape)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() <= 1
    for value in parameters.values():
        assert value.shape[:2] == (6, 2)
        assert value.dtype == torch.float32
    if name != "none":
        assert not torch.equal(x[:, 0], x[:, 1])


def test_none_repeats_one_item_and_passes_ready_made_views_through() -> None:
    views = Views(preset("none"), GREY)
    images = torch.randint(0, 256, (4, 3, *GREY), dtype=torch.uint8)
    x, parameters = views(images, 3)
    assert torch.equal(x, images.float() / 255)
    assert parameters == {}
    repeated, _ = views(images[:, :1], 3)
    assert torch.equal(repeated, x[:, :1].expand(4, 3, *GREY))


def test_a_crop_box_gives_the_view_when_applied_by_hand() -> None:
    images = smooth_images(8, COLOUR)
    x, parameters = Views(Augmentation(crop_scale=(0.2, 1.0)), COLOUR)(images, 2)
    for i in range(8):
        for j in range(2):
            left, top, width, height = (32 * parameters["crop_box"][i, j]).round().int().tolist()
            patch = images[i, :, :, top : top + height, left : left + width].float() / 255
            by_hand = functional.interpolate(patch, (32, 32), mode="bilinear", align_corners=True)
            assert torch.allclose(x[i, j], by_hand[0], atol=1e-4)


def test_crops_keep_to_their_ranges() -> None:
    augmentation = Augmentation(crop_scale=(0.4, 0.8), crop_ratio=(0.75, 1.3))
    shape = (1, 100, 100)
    _, parameters = Views(augmentation, shape)(torch.zeros(300, 1, *shape), 2)
    left, top, width, height = parameters["crop_box"].unbind(-1)
    area = width * height
    # Sides are whole pixels, here hundredths.
    assert area.min() > 0.38
    assert area.max() < 0.82
    assert area.max() - area.min() > 0.3
    assert (width / height).min() > 0.73
    assert (width / height).max() < 1.33
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6


def test_flips_are_recorded_as_they_happen() -> None:
    images = smooth_images(20, COLOUR)
    x, parameters = Views(Augmentation(horizontal_flip=0.5, vertical_flip=0.3), COLOUR)(images, 2)
    for i in range(20):
        for j in range(2):
            expected = images[i, 0].float() / 255
            if parameters["horizontal_flip"][i, j]:
                expected = expected.flip(-1)
            if parameters["vertical_flip"][i, j]:
                expected = expected.flip(-2)
            assert torch.allclose(x[i, j], expected)
    assert set(parameters["horizontal_flip"].unique().tolist()) == {0.0, 1.0}


def test_rotation_and_translation_move_a_point_as_recorded() -> None:
    images = torch.zeros(50, 1, 1, 41, 41)
    images[..., 19:22, 29:32] = 1  # ten pixels to the right of the centre
    grid = torch.arange(41.0) - 20
    x, parameters = Views(Augmentation(rotation=40.0, translation=0.1), (1, 41, 41))(images, 2)
    mass = x[:, :, 0] / x[:, :, 0].sum((-1, -2), keepdim=True)
    angle = parameters["rotation"] * math.pi / 180
    shift = 41 * parameters["translation"]
    assert torch.allclose((mass.sum(-2) * grid).sum(-1), 10 * angle.cos() + shift[..., 0], atol=0.1)
    assert torch.allclose((mass.sum(-1) * grid).sum(-1), 10 * angle.sin() + shift[..., 1], atol=0.1)
    assert parameters["rotation"].abs().max() <= 40
    assert parameters["rotation"].abs().max() > 30
    assert parameters["translation"].abs().max() <= 0.1


def test_scale_and_shear_move_points_as_recorded() -> None:
    augmentation = Augmentation(scale=(0.7, 1.4), shear=20.0)
    grid = torch.arange(41.0) - 20
    centres = []
    for rows, columns in ((slice(19, 22), slice(27, 30)), (slice(27, 30), slice(19, 22))):  # right, then below
        images = torch.zeros(50, 1, 1, 41, 41)
        images[..., rows, columns] = 1
        torch.manual_seed(0)
        x, parameters = Views(augmentation, (1, 41, 41))(images, 2)
        mass = x[:, :, 0] / x[:, :, 0].sum((-1, -2), keepdim=True)
        centres.append([(mass.sum(-2) * grid).sum(-1), (mass.sum(-1) * grid).sum(-1)])
    scale = parameters["scale"]
    right, up = (parameters["shear"] * math.pi / 180).tan().unbind(-1)
    expected = [[8 * scale, -8 * scale * up], [-8 * scale * right, 8 * scale * (1 + right * up)]]
    for centre, point in zip(centres, expected, strict=True):
        for found, coordinate in zip(centre, point, strict=True):
            assert torch.allclose(found, coordinate, atol=0.15)
    assert 0.7 <= scale.min() < 0.8
    assert 1.3 < scale.max() <= 1.4
    assert 15 < parameters["shear"].abs().max() <= 20


def test_jitter_keeps_to_its_ranges_and_its_factors_give_the_view() -> None:
    brightness = Augmentation(jitter=(0.4, 0.0, 0.0, 0.0), jitter_probability=0.5)
    images = smooth_images(50, COLOUR)
    x, parameters = Views(brightness, COLOUR)(images, 2)
    factor = parameters["jitter"][..., 0]
    assert torch.allclose(x, (images.float() / 255 * factor[..., None, None, None]).clamp(0, 1), atol=1e-5)
    assert 0.2 < (factor == 1).float().mean() < 0.8

    _, parameters = Views(preset("cifar10_paper"), COLOUR)(images, 2)
    low, high = parameters["jitter"].amin((0, 1)), parameters["jitter"].amax((0, 1))
    assert (low >= torch.tensor([0.2, 0.2, 0.2, -0.2])).all()
    assert (high <= torch.tensor([1.8, 1.8, 1.8, 0.2])).all()
    assert (high - low > torch.tensor([1.2, 1.2, 1.2, 0.3])).all()


def test_jitter_turns_the_hue_by_its_fraction_of_a_circle() -> None:
    """Red becomes the colour whose hue, in HSV, is the recorded turn."""
    red = torch.zeros(20, 1, 3, 4, 4)
    red[:, :, 0] = 1
    x, parameters = Views(Augmentation(jitter=(0.0, 0.0, 0.0, 0.5)), (3, 4, 4))(red, 2)
    turn = parameters["jitter"][..., 3]
    sextant = torch.remainder(torch.tensor([5.0, 3.0, 1.0]) + turn[..., None] * 6, 6)
    expected = 1 - torch.minimum(sextant, 4 - sextant).clamp(0, 1)
    assert torch.allclose(x[..., 0, 0], expected, atol=1e-4)


def test_grayscale_is_recorded() -> None:
    x, parameters = Views(Augmentation(grayscale=0.5), COLOUR)(smooth_images(20, COLOUR), 2)
    colourless = (x.amax(2) - x.amin(2)).amax((-1, -2)) < 1e-6
    assert torch.equal(colourless.float(), parameters["grayscale"])


def test_a_threshold_makes_views_and_plain_images_binary() -> None:
    views = Views(preset("mnist_paper"), GREY)
    images = smooth_images(5, GREY)
    x, _ = views(images, 2)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(views.plain(images[:, 0]), (images[:, 0] > 127).float())


def test_plain_images_are_scaled_and_draw_nothing() -> None:
    views = Views(preset("cifar10"), COLOUR)
    images = smooth_images(5, COLOUR)[:, 0]
    before = torch.get_rng_state()
    assert torch.equal(views.plain(images), images.float() / 255)
    assert torch.equal(views.plain(images.float() / 255), images.float() / 255)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["mnist", "mnist_paper", "cifar10"])
def test_the_global_seed_reproduces_the_views(name: str) -> None:
    shape = GREY if "mnist" in name else COLOUR
    images = smooth_images(4, shape)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(Views(preset(name), shape)(images, 2)[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("given", [1, 3])
def test_drawing_and_augmenting_are_what_forward_does(name: str, given: int) -> None:
    shape = GREY if "mnist" in name else COLOUR
    images = smooth_images(5, shape).expand(5, given, *shape)
    views = Views(preset(name), shape)
    torch.manual_seed(0)
    x, parameters = views(images, 3)
    torch.manual_seed(0)
    uniforms = views.draw(5, 3)
    assert uniforms.shape == (15, views.num_uniforms)
    assert uniforms.dtype == torch.float32
    after = torch.get_rng_state()
    again, same = views.augment(images, uniforms, 3)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(again, x)
    assert again.is_contiguous()
    assert list(same) == list(parameters)
    assert all(torch.equal(same[key], value) for key, value in parameters.items())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("given", [1, 2])
def test_augmenting_looks_at_no_value(name: str, given: int) -> None:
    """Tensors without values, as a captured graph meets them, refuse every operation whose shapes depend on data."""
    shape = GREY if "mnist" in name else COLOUR
    views = Views(preset(name), shape)
    with FakeTensorMode():
        images = torch.empty(4, given, *shape, dtype=torch.uint8, device="cuda")
        uniforms = torch.empty(8, views.num_uniforms, device="cuda")
        x, parameters = views.augment(images, uniforms, 2)
    assert x.shape == (4, 2, *shape)
    # Nothing of it is left on, or brought from, the host.
    assert {value.device.type for value in (x, *parameters.values())} == {"cuda"}


def test_fake_tensors_refuse_data_dependence() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        bool(torch.empty(4, device="cuda").all())


@pytest.mark.parametrize("name", ["cifar10", "cifar10_paper", "sprites"])
def test_a_view_is_kornias_steps_one_after_the_other(name: str) -> None:
    augmentation = preset(name)
    views = Views(augmentation, COLOUR)
    images = smooth_images(12, COLOUR)
    uniforms = views.draw(12, 2)
    x, parameters = views.augment(images, uniforms, 2)
    order = parameters_of(augmentation, uniforms, 32, 32)["jitter_order"].argsort(1).view(12, 2, 4)
    steps = (
        kornia.enhance.adjust_brightness_accumulative,
        kornia.enhance.adjust_contrast_with_mean_subtraction,
        kornia.enhance.adjust_saturation_with_gray_subtraction,
        lambda image, fraction: kornia.enhance.adjust_hue(image, 2 * math.pi * fraction),
    )
    for i in range(12):
        for j in range(2):
            left, top, width, height = (32 * parameters["crop_box"][i, j]).tolist()
            right, bottom = left + width - 1, top + height - 1
            corners = torch.tensor([[[left, top], [right, top], [right, bottom], [left, bottom]]])
            expected = kornia.geometry.transform.crop_and_resize(images[i].float() / 255, corners, (32, 32))
            if "horizontal_flip" in parameters and parameters["horizontal_flip"][i, j]:
                expected = expected.flip(-1)
            for step in order[i, j].tolist():
                expected = steps[step](expected, parameters["jitter"][i, j, step])
            if "grayscale" in parameters and parameters["grayscale"][i, j]:
                expected = kornia.color.rgb_to_grayscale(expected).expand(-1, 3, -1, -1)
            # Positions are rounded to single precision in both, on edges of up to a tenth a pixel.
            assert torch.allclose(x[i, j], expected[0], atol=2e-5)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(jitter=(0.4,) * 4, grayscale=0.5)])
@pytest.mark.parametrize("given", [1, 2])
def test_the_items_stay_as_they_are(augmentation: Augmentation, given: int) -> None:
    images = torch.rand(4, given, *COLOUR)
    before = images.clone()
    x, _ = Views(augmentation, COLOUR)(images, 2)
    x.zero_()
    assert torch.equal(images, before)


def test_double_precision_becomes_single() -> None:
    images = torch.rand(4, 1, *COLOUR, dtype=torch.float64)
    views = Views(preset("cifar10"), COLOUR)
    uniforms = views.draw(4, 2)
    x, _ = views.augment(images, uniforms, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, views.augment(images.float(), uniforms, 2)[0])


def test_nothing_of_it_enters_a_checkpoint() -> None:
    assert Views(preset("cifar10"), COLOUR).state_dict() == {}


def test_vectors_pass_through() -> None:
    views = Views(preset("none"), (7,))
    vectors = torch.randn(4, 2, 7)
    x, _ = views(vectors, 2)
    assert torch.equal(x, vectors)
    assert torch.equal(views.plain(vectors[:, 0]), vectors[:, 0])


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"vectors have no image augmentation: use --views none"):
        Views(preset("mnist"), (7,))
    with pytest.raises(InputError, match=r"3 channels, these have 1: use --views.jitter null"):
        Views(preset("cifar10"), GREY)
    views = Views(preset("none"), GREY)
    with pytest.raises(InputError, match=r"draws 3 views a group, not 2: use --training.num_views 3"):
        views(torch.zeros(4, 3, *GREY), 2)
    with pytest.raises(InputError, match=r"items of shape \(1, 28, 28\), got \(3, 32, 32\): use"):
        views(torch.zeros(4, 1, *COLOUR), 2)
