"""Calibration of the linear story's exact posterior, and of guides that are wrong in a known way."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from scipy import stats
from torch import nn

from pyro_simvae import limits
from pyro_simvae.checks import plate_sizes
from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.calibration import LEVELS, covered_by, simulate, uniformity
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian, Mixture, Multimodal, SimVAE
from pyro_simvae.networks import MLP, Encoders, Linear

P, D, J, N, L = 5, 2, 3, 600, 99


class Widened(nn.Module):
    """The linear story's posterior with its scales times a factor; the prior for factor 0."""

    def __init__(self, story, factor):
        super().__init__()
        self.story, self.factor = (story,), factor

    def forward(self, x):
        (story,) = self.story
        origin = story.origin
        with pyro.plate("groups", x.shape[0], dim=-2):
            content = pyro.sample("content", self.scaled(story.content_posterior(x), dist.Normal(origin, 1.0)))
            with pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("z", self.scaled(story.latent_posterior(x, content), dist.Normal(content, 0.4)))

    def scaled(self, posterior, prior):
        if self.factor == 0:
            return prior.to_event(1)
        return dist.MultivariateNormal(posterior.mean, scale_tril=self.factor * posterior.scale_tril)


def linear_story():
    with rng.isolated(0):
        return LinearGaussian(Normal(Linear().decoder((P,), D), scale=0.4), D).double()


def calibration(factor):
    story = linear_story()
    return simulate(LedgerELBO(story, Exact(story) if factor == 1 else Widened(story, factor)), N, J, L)


def test_exact_posterior_is_calibrated():
    found = calibration(1)
    assert {name: ranks.shape for name, ranks in found.ranks.items()} == {
        "content": (N, D),
        "z": (N, J, D),
        "log_joint": (N, 1),
    }
    for name, ranks in found.ranks.items():
        assert ranks.min() >= 0
        assert ranks.max() <= L
        assert found.p_value[name] > 0.01
        for level in LEVELS:
            assert abs(found.coverage[name][level] - level) < 4 * found.coverage_se[name][level]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_other_scales_are_not(factor):
    found = calibration(factor)
    for name in ("content", "z"):
        assert found.p_value[name] < 1e-6
        # Ranks of a posterior that is too narrow gather at the ends, and of one too wide in the middle.
        outer = (np.abs(found.ranks[name] - L / 2) > L / 4).mean()
        assert (outer > 0.6) if factor < 1 else (outer < 0.4)
        assert (found.coverage[name][0.8] < 0.7) if factor < 1 else (found.coverage[name][0.8] > 0.9)


def test_coverage_of_half_the_scale_is_known():
    found = calibration(0.5)
    # Content is Normal about the posterior's loc, so that an interval of half its width covers less by as much.
    for level in (0.5, 0.8, 0.9):
        expected = 2 * stats.norm.cdf(stats.norm.ppf((1 + level) / 2) / 2) - 1
        error = found.coverage_se["content"][level]
        assert abs(found.coverage["content"][level] - expected) < 4 * error + 0.02  # quantiles are those of L draws


def test_a_guide_that_ignores_the_views_is_caught_by_the_joint():
    found = calibration(0)
    assert found.p_value["content"] > 0.01
    assert found.p_value["z"] > 0.01
    assert found.p_value["log_joint"] < 1e-6


def test_discrete_sites_have_no_ranks():
    with rng.isolated(0):
        story = Mixture(Normal(Linear().decoder((P,), D)), D, num_clusters=3)
        pair = LedgerELBO(story, MeanField(story, Linear().encoder((P,), D)))
    found = simulate(pair, num_groups=20, num_views=2, num_draws=9)
    assert set(found.ranks) == {"z", "log_joint"}


def test_parts_are_the_whole(monkeypatch):
    story = linear_story()
    pair = LedgerELBO(story, MeanField(story, Linear().encoder((P,), D)).double())
    whole = simulate(pair, 20, J, 999)
    monkeypatch.setattr("pyro_simvae.inspection.calibration.MOST_VALUES", 999 * J * P * 7)
    parts = simulate(pair, 20, J, 999)
    for name, ranks in whole.ranks.items():  # of the same views, by other draws
        assert ranks.shape == parts.ranks[name].shape
        assert np.abs(ranks - parts.ranks[name]).max() < 5 * 0.5 * (2 * 999) ** 0.5


def test_p_values_are_uniform_over_simulations():
    generator = np.random.default_rng(0)
    # One dimension, and three that are the same: Bonferroni holds, and is exact where there is one.
    alone = [uniformity(generator.integers(0, 100, (500, 2, 1)), 99) for _ in range(500)]
    assert stats.kstest(alone, "uniform").pvalue > 1e-3
    tied = [uniformity(generator.integers(0, 100, (500, 1, 1)).repeat(3, 2), 99) for _ in range(500)]
    assert np.mean(np.array(tied) < 0.1) <= 0.1


def test_views_that_are_copies_are_not_counted_twice():
    generator = np.random.default_rng(0)
    copies = [uniformity(generator.integers(0, 100, (500, 1, 1)).repeat(5, 1), 99) for _ in range(300)]
    assert stats.kstest(copies, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("num_draws", [1, 6, 99])
@pytest.mark.parametrize("level", LEVELS)
def test_uniform_ranks_are_covered_at_the_level(num_draws, level):
    ranks = np.arange(num_draws + 1).reshape(1, -1)
    assert covered_by(ranks, num_draws, level)[0] == pytest.approx(level)


def test_ends_lie_outside_and_the_middle_inside():
    assert covered_by(np.array([[0], [50], [99]]), 99, 0.9).tolist() == [0, 1, 0]


def test_what_cannot_be_drawn_is_refused():
    with rng.isolated(0):
        network = MLP([4])
        story = SimVAE(Normal(network.decoder((P,), D)), D, content_scale=math.inf)
        pair = LedgerELBO(story, MeanField(story, network.encoder((P,), D)))
    with pytest.raises(InputError, match="flat content is improper"):
        simulate(pair)
    with pytest.raises(InputError, match="the program's views are noise"):
        simulate(LedgerELBO(*limits.simclr()(story, pair.guide)))
    likelihood = {name: Normal(network.decoder((P,), D)) for name in ("image", "sound")}
    several = Multimodal(likelihood, D)
    guide = MeanField(several, Encoders({name: network.encoder((P,), D) for name in likelihood}))
    with pytest.raises(InputError, match="the story's views are of several modalities"):
        simulate(LedgerELBO(several, guide))
    with pytest.raises(InputError, match="num_groups is 9"):
        simulate(pair, num_groups=9)
    with pytest.raises(InputError, match="num_draws is 0"):
        simulate(pair, num_draws=0)


class Spread(SimVAE):
    """A style scale of its own for each group: one number, without event dimensions."""

    def forward(self, x=None, num_groups=1, num_views=2):
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content(num_views))
            spread = pyro.sample("spread", dist.LogNormal(torch.zeros(()), 0.3))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(content, spread.unsqueeze(-1)).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)


class Shared(SimVAE):
    def forward(self, x=None, num_groups=1, num_views=2):
        with poutine.scale(scale=0.1):
            pyro.sample("shared", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        return super().forward(x, num_groups, num_views)


def small(story):
    with rng.isolated(0):
        network = MLP([4])
        model = story(Normal(network.decoder((5,), 2)), 2)
        return LedgerELBO(model, MeanField(model, network.encoder((5,), 2)))


def test_sites_of_one_number_have_ranks():
    found = simulate(small(Spread), num_groups=20, num_draws=19)
    assert found.ranks["spread"].shape == (20, 1)
    assert found.ranks["z"].shape == (20, 2, 2)


def test_what_all_groups_share_is_not_calibrated():
    with pytest.raises(InputError, match="all groups share 'shared'"):
        simulate(small(Shared), num_groups=20)
