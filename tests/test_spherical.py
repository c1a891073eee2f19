"""The power spherical distribution: normalization, moments and gradients of its draws, in any dimension."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from scipy import integrate
from torch.nn import functional as F

from pyro_simvae.spherical import PowerSpherical


def direction(dim, *batch):
    return F.normalize(torch.randn(*batch, dim, dtype=torch.float64), dim=-1)


def power_spherical(dim, concentration, **arguments):
    loc = direction(dim)
    return PowerSpherical(loc, torch.tensor(concentration, dtype=torch.float64), **arguments)


def integral(function, dim):
    """∫ f(μ·x) dx over the sphere of R^D: the area of its slices times f, as a function of the angle to μ."""
    area = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)
    value, _ = integrate.quad(lambda a: function(math.cos(a)) * math.sin(a) ** (dim - 2), 0, math.pi, limit=200)
    return area * value


def at_cosine(q, cosine):
    """A point of the sphere at this cosine to q.loc."""
    across = torch.zeros_like(q.loc)
    across[q.loc.abs().argmin()] = 1
    across = F.normalize(across - (across @ q.loc) * q.loc, dim=-1)
    return cosine * q.loc + math.sqrt(max(0.0, 1 - cosine**2)) * across


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dim", [2, 3, 5, 16])
@pytest.mark.parametrize("concentration", [0.0, 0.3, 7.0, 200.0])
def test_density_integrates_to_one(dim, concentration):
    q = power_spherical(dim, concentration)
    assert integral(lambda cosine: q.log_prob(at_cosine(q, cosine)).exp().item(), dim) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_without_concentration_it_is_uniform(dim):
    q, x = power_spherical(dim, 0.0), direction(dim, 6)
    area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    torch.testing.assert_close(q.log_prob(x).exp(), torch.full((6,), 1 / area, dtype=torch.float64))
    torch.testing.assert_close(q.log_prob(-q.loc).exp().item(), 1 / area)
    torch.testing.assert_close(q.sample((200_000,)).mean(0), torch.zeros(dim, dtype=torch.float64), rtol=0, atol=0.01)


@pytest.mark.parametrize("dim", [2, 3, 16])
@pytest.mark.parametrize("concentration", [0.5, 12.0, 1e4])
def test_draws_are_unit_vectors_with_the_stated_moments(dim, concentration):
    q = power_spherical(dim, concentration)
    x = q.rsample((200_000,))
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(len(x), dtype=torch.float64))
    error = 5 * (q.variance / len(x)).sqrt()
    assert ((x.mean(0) - q.mean).abs() < error + 1e-9).all()
    torch.testing.assert_close(x.var(0), q.variance, rtol=0.05, atol=1e-3 / concentration)
    cosine = integral(lambda t: t * q.log_prob(at_cosine(q, t)).exp().item(), dim) if concentration < 100 else None
    if cosine is not None:
        torch.testing.assert_close(q.mean, cosine * q.loc, rtol=1e-6, atol=1e-9)


def test_expected_log_density_of_draws_is_minus_the_entropy():
    q = power_spherical(4, 6.0)
    entropy = -integral(lambda t: (lambda p: (p.exp() * p).item())(q.log_prob(at_cosine(q, t))), 4)
    assert -q.log_prob(q.sample((200_000,))).mean().item() == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize("dim", [2, 3, 9])
def test_gradients_of_draws_are_those_of_the_expectation(dim):
    """E[a·x] = a·μ κ/(κ + D - 1) and E[(μ₀·x)²] have gradients in closed form."""
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    basis = torch.eye(dim, dtype=torch.float64)
    q = PowerSpherical(angle.cos() * basis[0] + angle.sin() * basis[1], concentration)
    x = q.rsample((400_000,))
    tests = {"first": (x @ basis[1]).mean(), "second": (x @ basis[0]).square().mean()}
    expected = {"first": q.mean @ basis[1], "second": (q.variance + q.mean.square()) @ basis[0]}
    for name, value in tests.items():
        found = torch.autograd.grad(value, [angle, concentration], retain_graph=True)
        exact = torch.autograd.grad(expected[name], [angle, concentration], retain_graph=True)
        torch.testing.assert_close(found, exact, rtol=0.03, atol=3e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_at_the_poles(sign):
    loc = (sign * torch.eye(3)[0]).requires_grad_()
    concentration = torch.tensor(1e6, requires_grad=True)
    q = PowerSpherical(loc, concentration)
    x = q.rsample((1000,))
    gradients = torch.autograd.grad((x.sum() + q.log_prob(x).sum()), [loc, concentration])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_single_precision_holds_for_high_concentration():
    q = power_spherical(64, 1e6)
    x = q.sample((100,))
    single = PowerSpherical(q.loc.float(), q.concentration.float())
    torch.testing.assert_close(single.log_prob(x.float()).double(), q.log_prob(x), rtol=1e-4, atol=0.0)


def test_near_its_direction_it_is_a_normal_of_variance_two_over_kappa():
    q = power_spherical(6, 5000.0)
    across = q.sample((100_000,)) - q.loc
    torch.testing.assert_close(across.square().sum(-1).mean() / 5, torch.tensor(2 / 5000.0).double(), rtol=0.02, atol=0)


def test_batches_broadcast_and_expand_in_plates():
    q = PowerSpherical(direction(3, 4, 1), torch.rand(2).double())
    assert (q.batch_shape, q.event_shape) == ((4, 2), (3,))
    wide = q.expand((5, 4, 2))
    assert wide.rsample().shape == (5, 4, 2, 3)
    x = q.rsample((7,))
    torch.testing.assert_close(wide.log_prob(x[0])[3], q.log_prob(x[0]))
    with pyro.plate("groups", 6, dim=-2), pyro.plate("views", 2, dim=-1):
        assert pyro.sample("z", power_spherical(3, 2.0)).shape == (6, 2, 3)


def test_values_off_the_sphere_are_refused_where_validation_is_asked_for():
    q = power_spherical(3, 2.0, validate_args=True)
    assert q.log_prob(q.sample()).isfinite()
    with pytest.raises(ValueError, match="within the support"):
        q.log_prob(2 * q.loc)
    with pytest.raises(ValueError, match="concentration"):
        power_spherical(3, -1.0, validate_args=True)
    assert isinstance(q, dist.TorchDistribution)
