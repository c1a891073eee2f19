"""Importance weights of Normals, whose k is known, and of guides of the linear story, whose posterior is known."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.importance import LogJoint, draw_latents, effective_share, iwae_gap, pareto_k
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian, Mixture
from pyro_simvae.networks import Linear

D, J = 2, 2


def linear_story(num_values=5):
    return LinearGaussian(Normal(Linear().decoder((num_values,), D), scale=0.4), D)


class Moved(nn.Module):
    """The linear story's posterior, its content off by three posterior scales in each direction."""

    def __init__(self, story):
        super().__init__()
        self.story = (story,)

    def forward(self, x):
        (story,) = self.story
        with pyro.plate("groups", x.shape[0], dim=-2):
            posterior = story.content_posterior(x)
            loc = posterior.mean + 3 * posterior.scale_tril.sum(-1)
            content = pyro.sample("content", dist.MultivariateNormal(loc, scale_tril=posterior.scale_tril))
            with pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("z", story.latent_posterior(x, content))


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.7, 0.9])
def test_k_of_a_narrow_normal_is_one_less_its_variance(scale):
    # For target Normal(0, 1), log w = z² (1/s² - 1) / 2 up to a constant: P(w > t) falls as t^(-1 / (1 - s²)).
    with rng.isolated(0):
        z = scale * torch.randn(20_000, 20, dtype=torch.float64)
    k = pareto_k(z**2 * (scale**-2 - 1) / 2)
    assert k.mean().item() == pytest.approx(1 - scale**2, abs=0.12)


def test_k_of_bounded_weights_is_negative():
    with rng.isolated(0):
        z = 1.5 * torch.randn(1000, 20, dtype=torch.float64)
    assert (pareto_k(z**2 * (1.5**-2 - 1) / 2) < 0).all()


def test_exact_guide_is_below_a_half():
    with rng.isolated(0):
        story = linear_story(784)
        pair, x = LedgerELBO(story, Exact(story)), story(num_groups=50, num_views=J).detach()
        weights = pair.log_weights(x, 200).detach()  # in float32: equal up to rounding
    assert weights.std(0).max() > 0
    assert (pareto_k(weights) == -torch.inf).all()
    noisy = weights.double().mean(0) + 0.2 * torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    k = pareto_k(noisy)
    assert k.isfinite().all()
    assert (k < 0.5).all()


def test_guide_moved_by_three_scales_is_above_the_limit():
    with rng.isolated(0):
        story = linear_story().double()
        pair, x = LedgerELBO(story, Moved(story)), story(num_groups=20, num_views=J).detach()
        weights = pair.log_weights(x, 1000).detach()
    assert (pareto_k(weights) > 0.7).all()
    assert (effective_share(weights) < 0.05).all()


def test_weights_that_are_no_numbers_count_as_missed():
    weights = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    weights[3, 0], weights[3, 1], weights[3, 2] = torch.nan, torch.inf, -torch.inf
    k = pareto_k(weights)
    assert (k[:2] == torch.inf).all()
    assert k[2:].isfinite().all()


def test_too_few_draws_have_no_tail():
    with pytest.raises(InputError, match="24 draws have no tail"):
        pareto_k(torch.zeros(24, 3))


def test_gap_and_effective_size_of_two_weights():
    weights = torch.tensor([[0.0, 5.0], [math.log(3), 5.0]])
    torch.testing.assert_close(iwae_gap(weights), torch.tensor([math.log(2) - math.log(3) / 2, 0.0]))
    torch.testing.assert_close(effective_share(weights), torch.tensor([0.8, 1.0]))


@pytest.mark.parametrize("num_draws", [1, 5])
def test_log_joint_is_evidence_and_posterior(num_draws):
    with rng.isolated(0), torch.no_grad():
        story = linear_story().double()
        x = story(num_groups=3, num_views=J)
        latents = draw_latents(
            LedgerELBO(story, MeanField(story, Linear().encoder((5,), D))).double(), x, num_draws, {}
        )
    assert latents["content"].shape == (num_draws, 3, 1, D)
    assert latents["z"].shape == (num_draws, 3, J, D)
    content = story.content_posterior(x).log_prob(latents["content"]).sum(-1)
    z = story.latent_posterior(x, latents["content"].flatten(0, 1)[:3]).log_prob(latents["z"][0]).sum(-1)
    joint = LogJoint(story)(x, latents)
    assert joint.shape == (num_draws, 3)
    torch.testing.assert_close(joint[0], story.evidence(x) + content[0] + z)


def test_log_joint_sums_discrete_sites_out():
    with rng.isolated(0), torch.no_grad():
        story = Mixture(Normal(Linear().decoder((5,), D)), D, num_clusters=3).double()
        x = story(num_groups=4, num_views=J)
        z = torch.randn(6, 4, J, D, dtype=torch.float64)
        views = torch.stack([story.likelihood(each).log_prob(x).sum(-1) for each in z])
        expected = views + torch.stack([story.evidence(each) for each in z])
    torch.testing.assert_close(LogJoint(story)(x, {"z": z}), expected)
