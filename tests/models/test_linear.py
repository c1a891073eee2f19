"""The linear story's closed forms against a brute-force multivariate normal."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Bernoulli, Normal
from pyro_simvae.models import LinearGaussian
from pyro_simvae.networks import MLP, Linear

P, D, G, S = 6, 3, 1.3, 0.7


@pytest.fixture
def story():
    torch.manual_seed(0)
    decoder = Linear().decoder((P,), D)
    return LinearGaussian(Normal(decoder, scale=0.4, learn_scale=True), D, content_scale=G, style_scale=S).double()


def joint(story, num_views):
    """Mean and covariance of (c, z_1..z_J, x_1..x_J), from the program's three lines."""
    linear = story.likelihood.decoder.linear
    noise = story.likelihood.log_scale.exp() ** 2
    size = D * (1 + num_views)
    latent = G**2 * torch.ones(1 + num_views, 1 + num_views, dtype=torch.float64)
    latent[1:, 1:] += S**2 * torch.eye(num_views)
    latent = torch.kron(latent, torch.eye(D, dtype=torch.float64))
    loading = torch.zeros(P * num_views, size, dtype=torch.float64)
    loading[:, D:] = torch.kron(torch.eye(num_views, dtype=torch.float64), linear.weight)
    cross = loading @ latent
    views = cross @ loading.T + noise * torch.eye(P * num_views)
    mean = torch.cat([torch.zeros(size, dtype=torch.float64), linear.bias.repeat(num_views)])
    return mean, torch.cat([torch.cat([latent, cross.T], 1), torch.cat([cross, views], 1)])


@pytest.mark.parametrize("num_views", [1, 2, 3, 5])
def test_evidence_is_the_brute_force_marginal(story, num_views):
    x = torch.randn(5, num_views, P, dtype=torch.float64)
    mean, covariance = joint(story, num_views)
    size = D * (1 + num_views)
    brute = MultivariateNormal(mean[size:], covariance[size:, size:]).log_prob(x.flatten(1))
    torch.testing.assert_close(story.evidence(x), brute, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_posteriors_condition_the_brute_force_joint(story, num_views):
    x = torch.randn(4, num_views, P, dtype=torch.float64)
    mean, covariance = joint(story, num_views)
    size = D * (1 + num_views)
    gain = torch.linalg.solve(covariance[size:, size:], covariance[size:, :size]).T
    loc = (x.flatten(1) - mean[size:]) @ gain.T
    posterior = covariance[:size, :size] - gain @ covariance[size:, :size]

    content = story.content_posterior(x)
    torch.testing.assert_close(content.mean.squeeze(1), loc[:, :D], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(content.covariance_matrix[0, 0], posterior[:D, :D], rtol=1e-6, atol=1e-7)

    latent = Exact(story).latent(x)
    torch.testing.assert_close(latent.mean.flatten(1), loc[:, D:], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(latent.covariance_matrix[0, 0], posterior[D : 2 * D, D : 2 * D], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("num_views", [1, 2, 4])
def test_elbo_of_the_exact_guide_is_the_evidence_whatever_is_drawn(story, num_views):
    x = torch.randn(4, num_views, P, dtype=torch.float64)
    elbo = LedgerELBO(story, Exact(story))
    evidence = story.evidence(x).sum()
    gradients = torch.autograd.grad(evidence, list(story.parameters()))
    for _ in range(3):
        objective = elbo(x).objective
        torch.testing.assert_close(objective, evidence, rtol=1e-6, atol=1e-8)
        for found, expected in zip(torch.autograd.grad(objective, list(story.parameters())), gradients, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_other_networks_likelihoods_and_stories_are_refused(story):
    with pytest.raises(InputError, match="--network linear and --likelihood normal"):
        LinearGaussian(Normal(MLP([4]).decoder((P,), D)), D)
    with pytest.raises(InputError, match="--network linear and --likelihood normal"):
        LinearGaussian(Bernoulli(Linear().decoder((P,), D)), D)
    with pytest.raises(InputError, match="use --guide mean_field"):
        Exact(torch.nn.Linear(2, 2))
