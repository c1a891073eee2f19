"""Likelihoods are normalized densities, decoded lazily, and say which data they are for."""

import pytest
import torch
from torch import nn

from pyro_simvae.distributions import Flat
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Bernoulli, ContinuousBernoulli, Normal


class Pixel(nn.Module):
    """A decoder to one pixel: the latent itself."""

    event_shape = torch.Size([1])

    def forward(self, z):
        return z


Z = torch.tensor([-6.0, -0.5, 0.0, 1e-3, 2.0, 8.0], dtype=torch.float64)[:, None, None]  # (6, 1, 1): N, J, D


def test_bernoulli_sums_to_one():
    p = Bernoulli(Pixel())(Z)
    total = sum(p.log_prob(torch.full((6, 1, 1), value, dtype=torch.float64)).exp() for value in (0.0, 1.0))
    torch.testing.assert_close(total, torch.ones(6, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("likelihood", "low", "high"),
    [(ContinuousBernoulli(Pixel()), 0.0, 1.0), (Normal(Pixel(), 0.3), -5.0, 13.0)],
)
def test_continuous_density_integrates_to_one(likelihood, low, high):
    grid = torch.linspace(low, high, 20001, dtype=torch.float64)
    p = likelihood(Z if likelihood.__class__ is ContinuousBernoulli else Z.clamp(-1, 8))
    density = p.log_prob(grid[:, None, None, None]).exp()
    torch.testing.assert_close(
        torch.trapezoid(density, grid, dim=0), torch.ones(6, 1, dtype=torch.float64), rtol=1e-4, atol=1e-4
    )


def test_shapes_and_means():
    p = Normal(Pixel(), 0.3)(Z)
    assert (p.batch_shape, p.event_shape) == ((6, 1), (1,))
    torch.testing.assert_close(p.mean, Z)
    torch.testing.assert_close(p.variance, torch.full_like(Z, 0.09))
    assert p.sample().shape == (6, 1, 1)
    assert p.expand((6, 1)) is p
    assert p.expand((2, 6, 1)).log_prob(Z).shape == (2, 6, 1)


def test_learned_scale_is_a_parameter():
    assert [name for name, _ in Normal(Pixel(), 0.3, learn_scale=True).named_parameters()] == ["log_scale"]
    assert not list(Normal(Pixel(), 0.3).parameters())


@pytest.mark.parametrize("scale", [0.0, -0.1])
def test_scale_must_be_positive(scale):
    with pytest.raises(InputError, match="give a positive number"):
        Normal(Pixel(), scale)


@pytest.mark.parametrize(
    ("likelihood", "x", "mend"),
    [
        (Bernoulli, 0.5, "views with a threshold"),
        (ContinuousBernoulli, 1.5, "--likelihood normal"),
        (Normal, float("nan"), "clean them"),
    ],
)
def test_data_outside_the_support_is_refused(likelihood, x, mend):
    likelihood(Pixel()).check(torch.tensor([0.0, 1.0]))
    with pytest.raises(InputError, match=mend):
        likelihood(Pixel()).check(torch.tensor([0.0, x]))


def test_flat_has_log_density_zero_and_no_draws():
    flat = Flat(3).expand((4, 1))
    value = torch.randn(4, 1, 3, dtype=torch.float64)
    assert flat.log_prob(value).shape == (4, 1)
    assert flat.log_prob(value).dtype == torch.float64
    assert not flat.log_prob(value).any()
    with pytest.raises(InputError, match="give a finite content_scale"):
        flat.sample()
