"""Steps on colours against kornia's, each and in every order."""

from itertools import permutations

import pytest
import torch
from kornia import enhance
from kornia.color import rgb_to_grayscale
from torch import Tensor

from pyro_simvae.data import colour

N, J = 5, 2


@pytest.fixture
def images() -> Tensor:
    """(N, 3, J, H, W); some pixels grey, black, white, or with two channels alike."""
    x = torch.rand(N, 3, J, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, :, 0, 0] = 0.3
    x[:, :, :, 0, 1] = 0
    x[:, :, :, 0, 2] = 1
    x[:, 0, :, 1] = x[:, 1, :, 1]
    x[:, 1, :, 2] = x[:, 2, :, 2]
    return x


def of_each_view(x: Tensor, operation, *values: Tensor) -> Tensor:
    """A kornia operation on (N J, 3, H, W), with numbers (N, J)."""
    flat = x.transpose(1, 2).flatten(0, 1)
    return operation(flat, *(value.flatten() for value in values)).view(N, J, *flat.shape[1:]).transpose(1, 2)


def turn_hue(x: Tensor, fraction: Tensor) -> Tensor:
    return enhance.adjust_hue(x, 2 * torch.pi * fraction)


KORNIAS = (
    enhance.adjust_brightness_accumulative,
    enhance.adjust_contrast_with_mean_subtraction,
    enhance.adjust_saturation_with_gray_subtraction,
    turn_hue,
)


def drawn_factors() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    uniforms = torch.rand(N, J, 4, generator=generator, dtype=torch.float64)
    return torch.cat([0.2 + 1.6 * uniforms[..., :3], uniforms[..., 3:] - 0.5], -1)


@pytest.mark.parametrize("step", range(4))
def test_each_step_is_kornias(images: Tensor, step: int) -> None:
    factor = drawn_factors()[..., step]
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).double().repeat(N, J, 1)
    factors[..., step] = factor
    order = torch.rand(N, J, 4)
    expected = of_each_view(images, KORNIAS[step], factor)
    assert torch.allclose(colour.jitter(images.clone(), factors, order), expected, atol=1e-6)
    if step < 3:
        assert torch.allclose(colour.jitter(images.clone(), factors, order, turns=False), expected, atol=1e-6)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_every_order_is_kornias(images: Tensor, order: tuple[int, ...]) -> None:
    factors = drawn_factors()
    expected = images
    for step in order:
        expected = of_each_view(expected, KORNIAS[step], factors[..., step])
    places = torch.tensor([float(order.index(step)) for step in range(4)]).expand(N, J, 4)
    assert torch.allclose(colour.jitter(images.clone(), factors, places), expected, atol=1e-6)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_every_order_without_a_turn_is_kornias(images: Tensor, order: tuple[int, ...]) -> None:
    factors = drawn_factors() * torch.tensor([1.0, 1.0, 1.0, 0.0])
    expected = images
    for step in order:
        expected = of_each_view(expected, KORNIAS[step], factors[..., step])
    # The fourth number, the turn's, is anywhere among the others.
    places = torch.tensor([*(float(order.index(step)) for step in range(3)), 0.5]).expand(N, J, 4)
    assert torch.allclose(colour.jitter(images.clone(), factors, places, turns=False), expected, atol=1e-6)


def test_every_view_has_its_own_order(images: Tensor) -> None:
    factors, order = drawn_factors(), torch.rand(N, J, 4, generator=torch.Generator().manual_seed(2))
    together = colour.jitter(images.clone(), factors, order)
    for i in range(N):
        for j in range(J):
            view = images[i : i + 1, :, j : j + 1].clone()
            alone = colour.jitter(view, factors[i : i + 1, j : j + 1], order[i : i + 1, j : j + 1])
            assert torch.allclose(alone, together[i : i + 1, :, j : j + 1], atol=1e-12)
    other = colour.jitter(images.clone(), factors, order.flip(-1))
    # A brightness below 1 may pass a hue's turn unnoticed, but most pairs of steps show their order.
    assert (other - together).abs().amax((1, 3, 4)).median() > 1e-3


def test_equal_places_lose_no_step(images: Tensor) -> None:
    factors = drawn_factors()
    two_steps = torch.cat([factors[..., :1], torch.ones(N, J, 2), factors[..., 3:]], -1)
    expected = [
        of_each_view(of_each_view(images, KORNIAS[a], factors[..., a]), KORNIAS[b], factors[..., b])
        for a, b in ((0, 3), (3, 0))
    ]
    found = colour.jitter(images.clone(), two_steps, torch.zeros(N, J, 4))
    assert any(torch.allclose(found, each, atol=1e-6) for each in expected)


def test_neutral_factors_leave_the_image(images: Tensor) -> None:
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(N, J, 4)
    single = images.float()
    assert torch.equal(colour.jitter(single.clone(), neutral, torch.rand(N, J, 4), turns=False), single)
    # HSV there and back rounds.
    assert torch.allclose(colour.jitter(single.clone(), neutral, torch.rand(N, J, 4)), single, atol=1e-6)


def test_a_blend_with_the_whole_luma_is_gray(images: Tensor) -> None:
    gray = (torch.arange(N * J).view(N, J) % 2).double()
    found = colour.blend(images.clone(), 1 - gray, luma=gray)
    for i in range(N):
        for j in range(J):
            view = images[i, :, j]
            expected = rgb_to_grayscale(view).expand(3, -1, -1) if gray[i, j] else view
            assert torch.allclose(found[i, :, j], expected, atol=1e-12)


def test_single_precision_keeps_to_the_unit_interval() -> None:
    x = torch.rand(50, 3, 2, 8, 8)
    x[:, :, :, 0] = x[:, :, :, 0].round()
    factors = torch.cat([2 * torch.rand(50, 2, 3), torch.rand(50, 2, 1) - 0.5], -1)
    order = torch.rand(50, 2, 4)
    found = colour.jitter(x.clone(), factors, order)
    assert found.min() >= 0
    assert found.max() <= 1
    exact = colour.jitter(x.double(), factors.double(), order)
    # The hue of a nearly grey pixel is uncertain, but hardly shows.
    assert torch.allclose(found.double(), exact, atol=1e-5)
