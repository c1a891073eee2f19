"""NUTS and bridge sampling against the linear story's closed forms, quadrature, and targets that they fail on."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.nuts import _bridge, log_evidence, sample_posterior
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian, Mixture
from pyro_simvae.networks import Linear
from pyro_simvae.spherical import PowerSpherical

P, D, J = 5, 2, 2


@pytest.fixture(scope="module")
def linear():
    """The linear pair, a group of its views, and NUTS draws for them."""
    with rng.isolated(0):
        story = LinearGaussian(Normal(Linear().decoder((P,), D), scale=0.4), D)
        pair = LedgerELBO(story, Exact(story)).double()
        x = story(num_views=J).detach()
    calls = []
    draws = sample_posterior(pair, x, num_draws=200, warmup=150, progress=lambda: calls.append(1))
    return pair, x, draws, len(calls)


def test_draws_are_from_the_exact_posterior(linear):
    pair, x, draws, calls = linear
    assert calls == 2 * (200 + 150)
    assert draws.samples["content"].shape == (2, 200, 1, 1, D)
    assert draws.samples["z"].shape == (2, 200, 1, J, D)
    assert draws.unconstrained.shape == (2, 200, (1 + J) * D)
    exact = {"content": pair.model.content_posterior(x), "z": pair.guide.latent(x)}
    for name, posterior in exact.items():
        found = draws.samples[name].flatten(0, 1)
        assert draws.ess[name] > 50
        error = posterior.stddev / draws.ess[name] ** 0.5
        assert ((found.mean(0) - posterior.mean).abs() < 4 * error).all()
        spread = (found.var(0) / posterior.variance - 1).abs()
        assert (spread < 4 * (2 / draws.ess[name]) ** 0.5).all()


def test_draws_in_order_have_no_trouble(linear):
    _, _, draws, _ = linear
    assert draws.trouble is None
    assert draws.diverging.shape == draws.steps.shape == (2, 200)
    assert (draws.steps >= 1).all()
    assert draws.at_max_tree_depth == 0
    assert all(0.98 < value < 1.05 for value in draws.r_hat.values())


def test_program_and_random_state_are_left_as_they_were(linear):
    pair, x, _, _ = linear
    parameters = [p.detach().clone() for p in pair.parameters()]
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second = (sample_posterior(pair, x, num_draws=5, warmup=5, seed=3) for _ in range(2))
    assert torch.rand(1) == expected
    torch.testing.assert_close(first.unconstrained, second.unconstrained)
    assert pair.training
    for parameter, before in zip(pair.parameters(), parameters, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is None
        torch.testing.assert_close(parameter, before)


def test_evidence_is_that_of_the_closed_form(linear):
    pair, x, draws, _ = linear
    found = log_evidence(pair, x, draws)
    assert 0.001 < found.relative_error < 0.1
    assert abs(found.log_evidence - pair.model.evidence(x).item()) < 4 * found.relative_error


def test_bridge_between_two_normals():
    # p(θ) = 3 Normal(0, 1), g = Normal(0, 1.3²): log 3, with the spread over repetitions that it says.
    generator = np.random.default_rng(0)

    def ratio(theta):
        return math.log(3) - theta**2 / 2 + (theta / 1.3) ** 2 / 2 + math.log(1.3)

    found = [
        _bridge(ratio(generator.normal(size=(2, 200))), ratio(1.3 * generator.normal(size=400))) for _ in range(200)
    ]
    errors = np.array([each.log_evidence - math.log(3) for each in found])
    claimed = np.mean([each.relative_error for each in found])
    assert abs(errors.mean()) < 4 * claimed / 200**0.5
    assert errors.std() == pytest.approx(claimed, rel=0.2)


def test_bridge_to_itself_is_exact():
    found = _bridge(np.full((2, 50), 7.0), np.full(100, 7.0))
    assert found.log_evidence == pytest.approx(7.0)
    assert found.relative_error == pytest.approx(0.0, abs=1e-12)


class Story(PyroModule):
    """z ~ prior, x ~ Normal(z_1 or another function of z, noise)."""

    def __init__(self, prior, view, noise):
        super().__init__()
        self.prior, self.view, self.noise = prior, view, noise

    def forward(self, x=None, num_groups=1, num_views=1):
        num_groups, num_views = (num_groups, num_views) if x is None else x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
            z = pyro.sample("z", self.prior)
            return pyro.sample("x", dist.Normal(self.view(z), self.noise).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            pyro.sample("z", self.fn)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def test_evidence_where_latents_are_positive():
    prior = dist.LogNormal(number([0.0]), 1.0).to_event(1)
    pair = LedgerELBO(Story(prior, lambda z: z, 0.5), Guide(prior))
    x = torch.full((1, 1, 1), 0.7, dtype=torch.float64)
    draws = sample_posterior(pair, x, num_draws=200, warmup=100)
    assert (draws.samples["z"] > 0).all()
    found = log_evidence(pair, x, draws)
    z = torch.linspace(1e-4, 30, 100_000, dtype=torch.float64).unsqueeze(-1)
    density = prior.log_prob(z) + dist.Normal(z, 0.5).to_event(1).log_prob(x[0, 0])
    expected = torch.trapezoid(density.exp(), z[:, 0]).log().item()
    assert abs(found.log_evidence - expected) < 4 * found.relative_error < 0.4


def test_evidence_where_latents_are_directions():
    prior = PowerSpherical(number([1.0, 0.0]), number(3.0))
    pair, x = LedgerELBO(Story(prior, lambda z: z, 0.5), Guide(prior)), number([0.3, 0.9]).view(1, 1, 2)
    draws = sample_posterior(pair, x, num_draws=150, warmup=100)
    torch.testing.assert_close(draws.samples["z"].norm(dim=-1), torch.ones(2, 150, 1, 1).double())
    found = log_evidence(pair, x, draws)
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    z = torch.stack([angle.cos(), angle.sin()], -1)
    density = prior.log_prob(z) + dist.Normal(z, 0.5).to_event(1).log_prob(x[0, 0])
    expected = torch.trapezoid(density.exp(), angle).log().item()
    assert abs(found.log_evidence - expected) < 4 * found.relative_error < 0.8


def test_discrete_sites_are_summed_out():
    with rng.isolated(0):
        story = Mixture(Normal(Linear().decoder((P,), 1), scale=0.5), 1, num_clusters=3)
        pair = LedgerELBO(story, MeanField(story, Linear().encoder((P,), 1))).double()
        x = story(num_views=1).detach()
    draws = sample_posterior(pair, x, num_draws=200, warmup=150)
    assert set(draws.samples) == {"z"}
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64).view(1, -1, 1)
    density = (story.likelihood(z).log_prob(x).squeeze(0) + story.evidence(z.transpose(0, 1))).detach()
    weight = density.exp() / density.exp().sum()
    loc = (weight * z.flatten()).sum()
    scale = ((weight * z.flatten() ** 2).sum() - loc**2).sqrt()
    assert (draws.samples["z"].mean() - loc).abs() < 4 * scale / draws.ess["z"] ** 0.5


def test_a_cliff_diverges_and_says_so():
    # The posterior is half a Normal, and across its edge at 0 the energy is higher by 20,000 nats.
    prior = dist.Normal(number([0.0]), 1.0).to_event(1)
    pair = LedgerELBO(Story(prior, lambda z: 100.0 * (z < 0), 0.5), Guide(dist.LogNormal(prior.mean, 1.0).to_event(1)))
    draws = sample_posterior(pair, number([0.0]).view(1, 1, 1), num_draws=50, warmup=50)
    diverged = int(draws.diverging.sum())
    assert diverged > 0
    assert f"{diverged} of 100 transitions diverged" in draws.trouble


def test_chains_in_two_modes_disagree_and_say_so():
    prior = dist.Normal(number([0.0]), 1.0).to_event(1)
    ends = dist.Normal(number([0.0]), 3.0).to_event(1)
    pair = LedgerELBO(Story(prior, lambda z: z**2, 0.05), Guide(ends))
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    for seed in range(20):  # until the chains start on two sides
        draws = sample_posterior(pair, x, num_draws=50, warmup=50, seed=seed)
        sides = draws.samples["z"].mean(1).flatten()
        if sides[0] * sides[1] < 0:
            break
    assert sides.abs().min() > 0.9
    assert "r_hat of z is" in draws.trouble
    assert "the chains disagree" in draws.trouble


def test_chains_that_never_move_are_trouble(linear):
    _, _, draws, _ = linear
    assert (
        draws._replace(r_hat={"content": math.nan, "z": 1.0}).trouble == "r_hat of content is nan, the chains disagree"
    )
    both = draws._replace(r_hat={"content": 1.0, "z": 1.06}, diverging=torch.ones(2, 200, dtype=torch.bool)).trouble
    assert both == (
        "400 of 400 transitions diverged, where NUTS cannot follow; r_hat of z is 1.06, the chains disagree"
    )


def test_short_trees_are_counted(linear):
    pair, x, _, _ = linear
    draws = sample_posterior(pair, x, num_draws=20, warmup=20, max_tree_depth=1)
    assert draws.at_max_tree_depth == 40
    assert (draws.steps == 1).all()


def test_what_does_not_fit_is_refused(linear):
    pair, x, _, _ = linear
    with pytest.raises(InputError, match="NUTS samples one group, and 2 are given"):
        sample_posterior(pair, x.repeat(2, 1, 1))
    with pytest.raises(InputError, match="chains is 1"):
        sample_posterior(pair, x, chains=1)
    with pytest.raises(InputError, match="num_draws is 3"):
        sample_posterior(pair, x, num_draws=3)
    counts = dist.Poisson(number([2.0])).to_event(1)
    with pytest.raises(InputError, match=r"the support of 'z', .*, has no unconstrained coordinates"):
        sample_posterior(LedgerELBO(Story(counts, lambda z: z, 1.0), Guide(counts)), x[..., :1])


def test_chains_that_stood_still_are_reported_and_break_nothing(linear):
    pair, x, draws, _ = linear
    first = draws.unconstrained[:, :1].expand_as(draws.unconstrained)
    still = draws._replace(unconstrained=first, r_hat={"z": math.nan})
    found = log_evidence(pair, x, still)
    assert "the chains disagree" in still.trouble
    # Far from the posterior of the moving chains.
    assert not abs(found.log_evidence - pair.model.evidence(x).item()) < 0.1
