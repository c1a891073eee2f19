"""VICReg and Barlow Twins against lightly, value and gradient."""

from itertools import combinations

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, VICRegLoss

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import GaussianLatents

SIZES = [(2, 3), (7, 2), (32, 16)]


@pytest.mark.parametrize(("num_groups", "dim"), SIZES)
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.3, 2.0), (7.0, 0.0, 0.0)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_vicreg_is_lightlys(assert_same, representations, num_groups, dim, weights, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    assert_same(limits.vicreg(*weights).loss(z).total, VICRegLoss(*weights)(z[:, 0], z[:, 1]), z)


@pytest.mark.parametrize(("num_groups", "dim"), SIZES)
@pytest.mark.parametrize("weight", [5e-3, 1.0, 0.0])
@pytest.mark.parametrize("collapsed", [False, True])
def test_barlow_twins_is_lightlys(assert_same, representations, num_groups, dim, weight, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    assert_same(limits.barlow_twins(weight).loss(z).total, BarlowTwinsLoss(weight)(z[:, 0], z[:, 1]), z)


def test_their_defaults_are_lightlys(assert_same, representations):
    z = representations(12, 2, 4)
    assert_same(limits.vicreg().loss(z).total, VICRegLoss()(z[:, 0], z[:, 1]), z)
    assert_same(limits.barlow_twins().loss(z).total, BarlowTwinsLoss()(z[:, 0], z[:, 1]), z)


def test_identical_views_have_finite_gradients(assert_same):
    z = torch.randn(8, 1, 3, dtype=torch.float64).repeat(1, 2, 1).requires_grad_()
    assert_same(limits.barlow_twins().loss(z).total, BarlowTwinsLoss()(z[:, 0], z[:, 1]), z)
    assert_same(limits.vicreg().loss(z).total, VICRegLoss()(z[:, 0], z[:, 1]), z)


def test_more_views_of_vicreg_average_over_pairs(assert_same, representations):
    z = representations(9, 4, 3)
    pairs = [VICRegLoss()(z[:, j], z[:, k]) for j, k in combinations(range(4), 2)]
    assert_same(limits.vicreg().loss(z).total, torch.stack(pairs).mean(), z)


def test_more_views_of_barlow_twins_average_correlations_over_pairs(assert_same, representations):
    z = representations(9, 3, 4)
    unit = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
    cross = torch.stack([unit[:, j].T @ unit[:, k] / 9 for j, k in combinations(range(3), 2)])
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    reference = (1 - cross.mean(0).diagonal()).square().sum() + 0.1 * cross[:, off_diagonal].square().sum(-1).mean()
    assert_same(limits.barlow_twins(0.1).loss(z).total, reference, z)


def test_the_gradient_of_barlow_twins_is_that_of_a_weighted_agreement(representations):
    z = representations(10, 2, 3)
    limit = limits.barlow_twins(0.0)
    unit = limit.geometry(z)
    weight = 1 - (unit[:, 0] * unit[:, 1]).mean(0).detach()
    weighted = 2 * weight * (unit[:, 0] - unit[:, 1]).square().mean(0) / 2
    (ours,), (theirs,) = (torch.autograd.grad(total, z) for total in (limit.loss(z).total, weighted.sum()))
    # The standardisation's ε, 1e-5 of a variance of 1, is what the weighted agreement leaves out.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


def test_joint_barlow_twins_is_linear_in_the_correlations(representations):
    z = representations(10, 2, 3)
    terms = limits.barlow_twins(content="joint").loss(z)
    unit = limits.barlow_twins().geometry(z)
    torch.testing.assert_close(terms["agreement"], (unit[:, 0] - unit[:, 1]).square().sum(-1).mean() / 4)


def test_vicreg_is_a_multiple_of_a_limit_with_an_entropy_in_nats(representations):
    """Divided by μ/D: style scale² μ / 4λ, and 8ν/μ of the covariance term's second-order value."""
    z = representations(10, 2, 6)
    terms = limits.vicreg().loss(z)
    style = (25 / (4 * 25)) ** 0.5
    limit = limits.logdet(1.0)
    agreement = limit.agreement(z, GaussianLatents(style), Given())["agreement"].mean()
    point = limit.agreement(torch.zeros_like(z), GaussianLatents(style), Given())["agreement"].mean()
    torch.testing.assert_close(terms["agreement"] / (25 / 6), point - agreement)
    covariances = torch.stack([torch.cov(z[:, j].T) for j in range(2)])
    squares = (covariances.square().sum((1, 2)) - covariances.diagonal(dim1=1, dim2=2).square().sum(1)).mean()
    torch.testing.assert_close(terms["covariance"] / (25 / 6), 0.32 * squares / 4)


@pytest.mark.parametrize(
    ("limit", "options", "message"),
    [
        (limits.vicreg, {"lambda_param": 0.0}, "lambda_param is"),
        (limits.vicreg, {"mu_param": -1.0}, "mu_param is"),
        (limits.vicreg, {"nu_param": float("nan")}, "nu_param is"),
        (limits.vicreg, {"eps": -1.0}, "eps is"),
        (limits.barlow_twins, {"lambda_param": -1.0}, "lambda_param is"),
    ],
)
def test_weights_out_of_range(limit, options, message):
    with pytest.raises(InputError, match=message):
        limit(**options)
