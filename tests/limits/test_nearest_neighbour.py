"""KoLeo against lightly, and its estimator against entropies that are known."""

import math

import pytest
import torch
from lightly.loss import KoLeoLoss
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.nearest_neighbour import nearest_neighbour_entropy


@pytest.mark.parametrize(("num_groups", "dim"), [(2, 3), (7, 2), (32, 16)])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_alignment_and_lightlys(assert_same, representations, num_groups, dim, temperature, num_views, collapsed):
    z = representations(num_groups, num_views, dim, collapsed)
    entropy = (dim - 1) * torch.stack([KoLeoLoss()(z[:, j]) for j in range(num_views)]).mean()
    unit = F.normalize(z, dim=-1)
    pairs = (unit.unsqueeze(1) - unit.unsqueeze(2)).square().sum(-1) / (2 * temperature)
    reference = pairs.sum((1, 2)).mean() / (num_views * (num_views - 1)) + entropy
    assert_same(limits.koleo(temperature).loss(z).total, reference, z)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_estimate_on_the_sphere_is_the_log_of_its_area(dim):
    z = F.normalize(torch.randn(4000, 1, dim, dtype=torch.float64), dim=-1)
    area = {2: 2 * math.pi, 3: 4 * math.pi}[dim]
    assert nearest_neighbour_entropy(z, dim - 1).mean() == pytest.approx(math.log(area), abs=0.08)


@pytest.mark.parametrize("dim", [1, 2])
def test_the_estimate_is_the_entropy_of_a_gaussian(dim):
    z = 3 * torch.randn(4000, 2, dim, dtype=torch.float64)
    exact = dim / 2 * math.log(2 * math.pi * math.e * 9)
    assert nearest_neighbour_entropy(z, dim).mean() == pytest.approx(exact, abs=0.08)


def test_its_value_is_the_equations():
    """Four points on a line, 0 1 3 7: nearest distances 1 1 2 4, V = 2, ψ(4) - ψ(1) = 1 + 1/2 + 1/3."""
    z = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=torch.float64).reshape(4, 1, 1)
    expected = torch.tensor([1.0, 1.0, 2.0, 4.0], dtype=torch.float64).log() + math.log(2) + 11 / 6
    torch.testing.assert_close(nearest_neighbour_entropy(z, 1), expected.reshape(4, 1))


def test_duplicates_stay_finite():
    z = torch.ones(4, 2, 3).requires_grad_()
    loss = limits.koleo().loss(z).total
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_bad_input(pair):
    with pytest.raises(InputError, match="temperature is"):
        limits.koleo(-1.0)
    with pytest.raises(InputError, match="eps is"):
        limits.koleo(eps=0.0)
    with pytest.raises(InputError, match="areas on the sphere"):
        limits.koleo().loss(torch.randn(5, 2, 1))
    with pytest.raises(InputError, match="areas on the sphere"):
        limits.koleo()(*pair(dim=1))
