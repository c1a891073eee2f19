"""The closed forms of the Gaussian story against a brute-force multivariate normal, one dimension at a time."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from pyro_simvae import conjugate

SCALES = [(1.0, 0.4), (0.3, 1.7), (5.0, 0.05)]
VIEWS = [1, 2, 3, 5]


def latents(num_views: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, num_views, 4, generator=generator, dtype=torch.float64)


def joint(num_views: int, content_scale: float, style_scale: torch.Tensor) -> MultivariateNormal:
    """Of (c, z_1..z_J), for each dimension: batch (D,)."""
    shared = torch.full((num_views + 1, num_views + 1), content_scale**2, dtype=torch.float64)
    own = torch.eye(num_views + 1, dtype=torch.float64)
    own[0, 0] = 0
    covariance = shared + style_scale[:, None, None] ** 2 * own
    covariance[:, 0, 0] += 1e-14  # c itself has no noise; keeps the factorization defined
    return MultivariateNormal(covariance.new_zeros(num_views + 1), covariance)


@pytest.mark.parametrize(("content_scale", "style_scale"), SCALES)
@pytest.mark.parametrize("num_views", VIEWS)
def test_group_evidence_is_the_brute_force_marginal(num_views, content_scale, style_scale):
    z = latents(num_views)
    style = style_scale * torch.tensor([1.0, 0.5, 2.0, 1.3], dtype=torch.float64)
    covariance = joint(num_views, content_scale, style).covariance_matrix[:, 1:, 1:]
    brute = MultivariateNormal(covariance.new_zeros(num_views), covariance).log_prob(z.mT).sum(-1)
    torch.testing.assert_close(conjugate.group_evidence(z, style, content_scale), brute, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("content_scale", "style_scale"), SCALES)
@pytest.mark.parametrize("num_views", VIEWS)
def test_posterior_and_predictive_condition_the_brute_force_joint(num_views, content_scale, style_scale):
    z = latents(num_views)
    style = torch.full((4,), style_scale, dtype=torch.float64)
    covariance = joint(num_views, content_scale, style).covariance_matrix[0]
    gain = torch.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    variance = covariance[0, 0] - covariance[0, 1:] @ gain
    mean = torch.einsum("njd,j->nd", z, gain).unsqueeze(1)

    posterior = conjugate.content_posterior(z, style_scale, content_scale)
    assert (posterior.batch_shape, posterior.event_shape) == ((6, 1), (4,))
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(posterior.variance, variance.expand(6, 1, 4), rtol=1e-6, atol=1e-10)

    predictive = conjugate.predictive(z, style_scale, content_scale)
    torch.testing.assert_close(predictive.mean, mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(predictive.variance, (variance + style_scale**2).expand(6, 1, 4), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_flat_content_integrates_a_constant_prior(num_views):
    """log ∫ Π_j N(z_j; c, s²) dc by quadrature."""
    z, style_scale = latents(num_views), 0.7
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    density = Normal(grid[:, None, None, None], style_scale).log_prob(z).sum(-2)
    brute = (density.logsumexp(0) + math.log(grid[1] - grid[0])).sum(-1)
    torch.testing.assert_close(conjugate.group_evidence(z, style_scale, math.inf), brute, rtol=1e-8, atol=1e-8)


def test_flat_content_is_the_limit_of_wide_content():
    z, style_scale, wide = latents(3), 0.7, 1e6
    correction = 4 * (math.log(wide) + 0.5 * math.log(2 * math.pi))  # the prior's own density, for D = 4
    torch.testing.assert_close(
        conjugate.group_evidence(z, style_scale, wide) + correction,
        conjugate.group_evidence(z, style_scale, math.inf),
        rtol=1e-8,
        atol=1e-8,
    )
    flat, broad = (conjugate.predictive(z, style_scale, scale) for scale in (math.inf, wide))
    torch.testing.assert_close(flat.mean, broad.mean)
    torch.testing.assert_close(flat.variance, broad.variance)


def test_predictive_kernel_of_one_view_has_the_stated_form():
    z, s, g = latents(1), 0.6, 1.4
    kernel = conjugate.predictive(z, s, g)
    torch.testing.assert_close(kernel.mean, g**2 / (g**2 + s**2) * z)
    variance = torch.full_like(z, s**2 + g**2 * s**2 / (g**2 + s**2))
    torch.testing.assert_close(kernel.variance, variance)
    torch.testing.assert_close(conjugate.predictive(z, s, math.inf).variance, torch.full_like(z, 2 * s**2))
    torch.testing.assert_close(conjugate.predictive(z, s, math.inf).mean, z)


@pytest.mark.parametrize("content_scale", [1.3, math.inf])
def test_evidence_is_prior_times_style_over_posterior_for_every_content(content_scale):
    z, style_scale = latents(3), 0.5
    posterior = conjugate.content_posterior(z, style_scale, content_scale)
    for content in (posterior.mean, posterior.mean + 2.0):
        prior = 0.0 if math.isinf(content_scale) else Normal(0.0, content_scale).log_prob(content).sum((-1, -2))
        style = Normal(content, style_scale).log_prob(z).sum((-1, -2))
        evidence = prior + style - posterior.log_prob(content).squeeze(-1)
        torch.testing.assert_close(evidence, conjugate.group_evidence(z, style_scale, content_scale))


def test_evidence_has_the_analytic_gradient():
    z = latents(3).requires_grad_()
    style = torch.tensor([0.4, 0.6, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    content_scale = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conjugate.group_evidence, (z, style, content_scale))
