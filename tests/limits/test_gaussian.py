"""The log-determinant limit, and what the limits with a squared agreement share."""

import math

import pytest
import torch
from lightly.loss.emp_ssl_loss import tcr_loss
from torch.distributions import MultivariateNormal

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.covariance import gaussian_entropy, scale_shortfall, squared_covariances

F64 = torch.float64


def corinfomax(z, alpha, eps):
    """Ozsoy et al. 2022, with the batch's own covariances; lightly has none."""
    total = alpha * (z[:, 0] - z[:, 1]).square().sum(-1).mean()
    for j in range(2):
        centred = z[:, j] - z[:, j].mean(0)
        total = total - torch.logdet(centred.T @ centred / len(z) + eps * torch.eye(z.shape[-1], dtype=z.dtype))
    return total


@pytest.mark.parametrize(("num_groups", "dim"), [(2, 3), (7, 2), (32, 16)])
@pytest.mark.parametrize(("alpha", "eps"), [(500.0, 1e-8), (2.0, 1e-2)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_four_times_logdet_is_corinfomax(assert_same, representations, num_groups, dim, alpha, eps, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    assert_same(4 * limits.logdet(2 / alpha, eps).loss(z).total, corinfomax(z, alpha, eps), z)


def test_its_defaults_are_those_of_corinfomax(assert_same, representations):
    z = representations(12, 2, 4)
    assert_same(4 * limits.logdet().loss(z).total, corinfomax(z, 500.0, 1e-8), z)


def test_the_total_coding_rate_is_its_entropy(representations):
    z = representations(9, 3, 5)
    z = z - z.mean(0)
    eps, dim = 0.2, 5  # lightly leaves ε unsquared
    constant = dim / 2 * math.log(2 * math.pi * math.e * eps / dim)
    entropy = gaussian_entropy(z, eps / dim).mean()
    torch.testing.assert_close(tcr_loss(z.transpose(0, 1), eps), entropy - constant, rtol=1e-12, atol=0)


def test_the_entropy_is_exact_for_a_gaussian():
    factor = torch.randn(4, 4, dtype=F64)
    exact = MultivariateNormal(torch.zeros(4, dtype=F64), scale_tril=factor.tril(-1) + torch.eye(4, dtype=F64))
    z = exact.sample((50_000, 1))
    torch.testing.assert_close(gaussian_entropy(z), exact.entropy()[None], rtol=0, atol=0.02)
    torch.testing.assert_close(gaussian_entropy(z, pooled=True), exact.entropy()[None], rtol=0, atol=0.02)


def test_the_objective_bounds_the_mutual_information_of_gaussian_views():
    """Views c + s ε with c ~ N(0, g² I): I = -½ log(1 - ρ²) a dimension."""
    dim, content, style = 3, 1.5, 0.5
    z = content * torch.randn(50_000, 1, dim, dtype=F64) + style * torch.randn(50_000, 2, dim, dtype=F64)
    correlation = content**2 / (content**2 + style**2)
    information = -dim / 2 * math.log(1 - correlation**2)
    limit = limits.logdet(2 * style**2)
    bound = sum(limit.constants(50_000, 2, dim).values()) - limit.loss(z).total
    assert bound < information + 0.02
    # Flat content predicts with variance 2 s² where the exact predictive has s² (1 + ρ).
    slack = dim / 2 * (math.log(2 / (1 + correlation)))
    torch.testing.assert_close(bound, torch.tensor(information - slack, dtype=F64), rtol=0, atol=0.02)


def test_scale_is_a_change_of_temperature(representations):
    z = representations(11, 3, 4)
    scaled = limits.logdet(0.3 * 2.5**2, eps=0.0).loss(2.5 * z).total
    torch.testing.assert_close(
        scaled, limits.logdet(0.3, eps=0.0).loss(z).total - 4 * math.log(2.5), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_pairwise_and_leave_one_out_squares_are_the_same(representations, assert_same, num_views):
    z = representations(8, num_views, 3)
    pairwise, other, joint = (
        limits.logdet(0.7, content=content).loss(z)["agreement"] for content in ("pairwise", "leave-one-out", "joint")
    )
    assert_same(other, pairwise, z)
    torch.testing.assert_close(joint, (num_views - 1) / num_views * pairwise)
    pairs = (z.unsqueeze(1) - z.unsqueeze(2)).square().sum(-1) / (2 * 0.7)
    torch.testing.assert_close(pairwise, pairs.sum((1, 2)).mean() / (num_views * (num_views - 1)))


@pytest.mark.parametrize("deviation", ["scales", "correlations"])
def test_the_second_order_terms_are_the_expansion_of_the_entropy(deviation):
    """½ log det Σ = -[Σ (1 - σ) + ¼ Σ C²] + O(δ²) in the scales and O(δ³) in the correlations."""
    noise = torch.randn(5, 5, dtype=F64)
    noise = -noise.square().diag() if deviation == "scales" else noise.triu(1) + noise.triu(1).T
    eye = torch.eye(5, dtype=F64)

    def error(size):
        cov = (eye + size * noise.diag()) @ (eye + size * noise.diag()) if deviation == "scales" else eye + size * noise
        surrogate = scale_shortfall(cov) + squared_covariances(cov) / 4
        return abs(torch.logdet(cov) / 2 + surrogate)

    order = math.log2(error(2e-3) / error(1e-3))
    assert order == pytest.approx(2 if deviation == "scales" else 3, abs=0.1)


def test_bad_input():
    with pytest.raises(InputError, match="temperature is"):
        limits.logdet(0.0)
    with pytest.raises(InputError, match="eps is"):
        limits.logdet(eps=-1.0)
    with pytest.raises(InputError, match="has no inverse"):
        limits.logdet(eps=0.0).loss(torch.randn(4, 2, 4))
    with pytest.raises(InputError, match="compares groups"):
        limits.logdet().loss(torch.randn(1, 2, 4))
