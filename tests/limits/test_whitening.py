"""W-MSE against lightly, value and gradient."""

import math

import pytest
import torch
from lightly.loss import WMSELoss
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.covariance import covariance, gaussian_entropy


@pytest.mark.parametrize(("num_groups", "dim"), [(7, 2), (12, 5), (32, 16)])
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_lightlys(assert_same, representations, num_groups, dim, num_views, eps, collapsed):
    z = representations(num_groups, num_views, dim, collapsed)
    reference = WMSELoss(embedding_dim=dim, w_size=num_groups, eps=eps, num_samples=num_views)
    assert_same(limits.wmse(eps=eps).loss(z).total, reference(z.transpose(0, 1).flatten(0, 1)), z)


def test_without_unit_length_it_is_the_square_of_whitened_views(assert_same, representations):
    z = representations(12, 2, 4)
    square = lambda a, b: (a - b).square().sum(-1).mean()  # noqa: E731
    reference = WMSELoss(embedding_dim=4, w_size=12, loss_fn=square)
    assert_same(limits.wmse(unit_length=False).loss(z).total, reference(z.transpose(0, 1).flatten(0, 1)), z)


def test_whitening_fixes_the_entropy(representations):
    z = limits.wmse(unit_length=False).geometry(10 + 3 * representations(12, 3, 4))
    torch.testing.assert_close(covariance(z, correction=1), torch.eye(4, dtype=z.dtype).expand(3, 4, 4))
    torch.testing.assert_close(covariance(z, correction=1).logdet(), torch.zeros(3, dtype=z.dtype))
    constant = 4 / 2 * math.log(2 * math.pi * math.e * 11 / 12)
    torch.testing.assert_close(gaussian_entropy(z), torch.full((3,), constant, dtype=z.dtype))


def test_gaussian_views_project_to_the_uniform_distribution():
    z = torch.randn(20_000, 2, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    unit = limits.wmse().geometry(z)
    # By Archimedes every coordinate of the uniform distribution on the sphere in three dimensions is itself uniform.
    for coordinate in unit.flatten(0, 1).T:
        edges = torch.linspace(-1, 1, 11, dtype=torch.float64)
        share = torch.histogram(coordinate.detach(), edges).hist / len(coordinate)
        torch.testing.assert_close(share, torch.full_like(share, 0.1), rtol=0, atol=0.01)


def test_linear_maps_of_the_batch_change_nothing(assert_same, representations):
    z = representations(12, 2, 3)
    triangular = torch.randn(3, 3, dtype=torch.float64).tril(-1) + torch.diag(torch.tensor([0.5, 2.0, 3.0]).double())
    assert_same(limits.wmse().loss(z @ triangular.T + 5).total, limits.wmse().loss(z).total, z)


def test_bad_input():
    for eps in (-0.1, 1.1):
        with pytest.raises(InputError, match="eps is"):
            limits.wmse(eps=eps)
    with pytest.raises(InputError, match="cannot be whitened"):
        limits.wmse().loss(torch.randn(4, 2, 4))
    with pytest.raises(InputError, match="cannot be whitened"):
        limits.wmse().loss(F.pad(torch.randn(9, 2, 2), (0, 1)))
