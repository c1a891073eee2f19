"""The amortization gap against the best mean-field guide of the linear story, which has a closed form."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence
from torch.distributions.transforms import ExpTransform
from torch.nn import functional as F

from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField, SphericalMeanField
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.importance import pareto_k
from pyro_simvae.inspection.refinement import Free, refine
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian, Mixture, SimVAE, Spherical
from pyro_simvae.networks import Linear
from pyro_simvae.spherical import PowerSpherical

P, D, J, N = 5, 2, 2, 4


def pair_of(cls, guide=MeanField, **arguments):
    """A pair whose encoder is untrained, and views of its story."""
    with rng.isolated(0):
        story = cls(Normal(Linear().decoder((P,), D), scale=0.4), D, **arguments)
        pair = LedgerELBO(story, guide(story, Linear().encoder((P,), D))).double()
        return pair, pair.model(num_groups=N, num_views=J).detach()


def posterior(story, x):
    """p(z_1..J | x) of the linear story, content integrated out, over R^(J D)."""
    weight, bias, noise = story._view()
    prior = story.style_scale**2 * torch.eye(J) + story.content_scale**2 * torch.ones(J, J)
    prior = torch.kron(prior, torch.eye(D)).double()
    precision = torch.linalg.inv(prior) + torch.kron(torch.eye(J).double(), weight.T @ weight) / noise
    loc = ((x - bias) @ weight / noise).flatten(1) @ torch.linalg.inv(precision)
    return MultivariateNormal(loc, precision_matrix=precision)


def test_refined_mean_field_is_the_best_there_is():
    pair, x = pair_of(LinearGaussian)
    exact = posterior(pair.model, x)
    precision = exact.precision_matrix[0]
    # The best factorized Normal has the posterior's loc and the scales 1/√Λ_ii.
    least = (precision.diagonal().log().sum() - torch.logdet(precision)).detach() / 2
    refined = refine(pair, x)
    assert (refined.elbo < pair.model.evidence(x) - least - 5).all()
    z = refined.guide.free["z"]()
    q = MultivariateNormal(z.mean.flatten(1), torch.diag_embed(z.variance.flatten(1)))
    divergence = kl_divergence(q, exact).detach()
    torch.testing.assert_close(divergence, least.expand(N), rtol=0, atol=0.01)
    error = LedgerELBO(pair.model, refined.guide).log_weights(x, 1000).std(0) / 200**0.5
    assert ((refined.refined_elbo - (pair.model.evidence(x) - divergence)).abs() < 5 * error).all()
    torch.testing.assert_close(refined.gap, refined.refined_elbo - refined.elbo)


def test_refined_guide_is_a_guide():
    pair, x = pair_of(LinearGaussian)
    refined = refine(pair, x, steps=200)
    before, after = (
        pareto_k(LedgerELBO(pair.model, guide).log_weights(x, 1000)) for guide in (pair.guide, refined.guide)
    )
    assert (after < before).all()
    with pytest.raises(InputError, match="call it with the views that it was refined for"):
        refined.guide(x[:2])


def test_exact_guide_has_no_gap_and_keeps_what_depends_on_draws():
    pair, x = pair_of(LinearGaussian, guide=lambda story, encoder: Exact(story))
    refined = refine(pair, x, steps=20)
    assert set(refined.guide.free) == {"content"}
    assert (refined.gap >= 0).all()
    torch.testing.assert_close(refined.gap, torch.zeros(N).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(refined.elbo, pair.model.evidence(x).detach())


def test_worse_ends_are_not_kept():
    pair, x = pair_of(LinearGaussian, guide=lambda story, encoder: Exact(story))
    refined = refine(pair, x, steps=3, learning_rate=5.0)
    expected = pair.model.content_posterior(x).mean
    torch.testing.assert_close(refined.guide.free["content"]().mean, expected)
    assert (refined.gap == 0).all()


def test_groups_are_refined_apart():
    pair, x = pair_of(SimVAE)
    alone = refine(pair, x[:1], steps=400, num_draws=1000)
    together = refine(pair, x, steps=400, num_draws=1000)
    torch.testing.assert_close(alone.refined_elbo, together.refined_elbo[:1], rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("cls", "guide"), [(Mixture, MeanField), (Spherical, SphericalMeanField)], ids=["discrete", "sphere"]
)
def test_other_stories(cls, guide):
    pair, x = pair_of(cls, guide)
    parameters = [p.detach().clone() for p in pair.parameters()]
    refined = refine(pair, x, steps=200)
    assert (refined.gap > 0).all()
    for parameter, before in zip(pair.parameters(), parameters, strict=True):
        torch.testing.assert_close(parameter, before)
        assert parameter.requires_grad
        assert parameter.grad is None
    assert not any(leaf.requires_grad for leaf in refined.guide.free.parameters())


loc, scale = torch.tensor([[0.3, -2.0], [1.0, 0.5]]), torch.tensor([[0.1, 3.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    "fn",
    [
        Gaussian(loc, scale),
        dist.Normal(loc, scale).to_event(1),
        dist.StudentT(scale + 2, loc, scale).to_event(1),
        dist.LogNormal(loc, scale).to_event(1),
        dist.Gamma(scale, scale + 1).to_event(1),
        dist.MultivariateNormal(loc, torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
        dist.LowRankMultivariateNormal(loc, loc.unsqueeze(-1), scale),
        PowerSpherical(F.normalize(loc, dim=-1), scale[:, 0]),
    ],
    ids=lambda fn: type(getattr(fn, "base_dist", fn)).__name__,
)
def test_free_distributions_start_where_they_were(fn):
    free = Free(fn)()
    value = fn.sample()
    assert (free.batch_shape, free.event_shape) == (fn.batch_shape, fn.event_shape)
    torch.testing.assert_close(free.log_prob(value), fn.log_prob(value))
    assert free.log_prob(value).requires_grad


class OneSite(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            pyro.sample("z", self.fn)


def test_what_cannot_be_refined_is_refused():
    pair, x = pair_of(Mixture)
    point = LedgerELBO(pair.model, OneSite(dist.Delta(torch.zeros(D).double(), event_dim=1)))
    with pytest.raises(InputError, match="the guide sets 'z' to a point"):
        refine(point, x)
    base = dist.Normal(torch.zeros(D).double(), 1.0)
    flow = LedgerELBO(pair.model, OneSite(dist.TransformedDistribution(base, [ExpTransform()]).to_event(1)))
    with pytest.raises(InputError, match="the guide OneSite has no site to refine"):
        refine(flow, x)
    with pytest.raises(InputError, match="steps is 0"):
        refine(pair, x, steps=0)
    with pytest.raises(InputError, match="num_draws is 0"):
        refine(pair, x, num_draws=0)
