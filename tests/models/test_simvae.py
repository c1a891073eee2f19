"""The explicit program against the collapsed objective, and what the story refuses."""

import itertools
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch.distributions import Normal

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import ContinuousBernoulli
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP

EVENT, D = (1, 4, 5), 3


def pair(cls=SimVAE, **arguments):
    torch.manual_seed(0)
    network = MLP([16])
    model = cls(ContinuousBernoulli(network.decoder(EVENT, D)), D, **arguments)
    return LedgerELBO(model, MeanField(model, network.encoder(EVENT, D))).double()


def views(num_groups: int, num_views: int) -> torch.Tensor:
    return torch.rand(num_groups, num_views, *EVENT, dtype=torch.float64)


def collapsed_elbo(elbo: LedgerELBO, x: torch.Tensor) -> torch.Tensor:
    """Σ_j log p(x_j|z_j) - log q(z_j|x_j), plus log p(z_1..J) in closed form: no content is drawn."""
    model, guide = elbo.model, elbo.guide
    loc, scale = guide.encoder(x)
    z = loc + scale * torch.randn_like(loc)
    reconstruction = model.likelihood(z).log_prob(x).sum()
    entropy = -Normal(loc, scale).log_prob(z).sum()
    return reconstruction + entropy + conjugate.group_evidence(z, model.style_scale, model.content_scale).sum()


def value_and_gradients(function, elbo):
    elbo.zero_grad()
    torch.manual_seed(1)  # both draw z first, from the same numbers
    value = function()
    value.backward()
    return value.detach(), {name: p.grad for name, p in elbo.named_parameters() if p.grad is not None}


STORIES = [
    {"content_scale": 1.0},
    {"content_scale": 0.3, "style_scale": 2.0},
    {"learn_style_scale": "shared"},
    {"learn_style_scale": "dimension"},
]
FLAT = {"content_scale": math.inf}  # with one view it is improper, and refused: see below
CASES = [*itertools.product(STORIES, [1, 2, 3, 5]), *itertools.product([FLAT], [2, 3, 5])]


@pytest.mark.parametrize(("story", "num_views"), CASES)
def test_explicit_program_with_conjugate_content_is_the_collapsed_elbo(story, num_views):
    elbo, x = pair(**story), views(4, num_views)
    value, gradients = value_and_gradients(lambda: elbo(x).objective, elbo)
    reference, reference_gradients = value_and_gradients(lambda: collapsed_elbo(elbo, x), elbo)
    torch.testing.assert_close(value, reference, rtol=1e-10, atol=0)
    assert gradients.keys() == reference_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, reference_gradients[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("cls", [SimVAE, VAE])
def test_pair_trains_in_plain_pyro(cls):
    elbo, x = pair(cls), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    pyro.clear_param_store()


def test_prior_predictive_and_posterior_predictive_draw():
    elbo = pair()
    prior = Predictive(elbo.model, num_samples=5)(num_groups=3, num_views=4)
    assert prior["content"].shape == (5, 3, 1, D)
    assert prior["z"].shape == (5, 3, 4, D)
    assert prior["x"].shape == (5, 3, 4, *EVENT)
    posterior = Predictive(elbo.model, guide=elbo.guide, num_samples=5)(views(3, 2))
    assert posterior["z"].shape == (5, 3, 2, D)


def test_prior_of_the_program_has_the_stated_moments():
    elbo = pair(content_scale=2.0, style_scale=0.5)
    trace = poutine.trace(elbo.model).get_trace(num_groups=20000, num_views=2)
    z = trace.nodes["z"]["value"]
    covariance = torch.cov(z[..., 0].T)
    torch.testing.assert_close(covariance.diagonal(), torch.full((2,), 4.25, dtype=torch.float64), rtol=0.05, atol=0)
    assert covariance[0, 1].item() == pytest.approx(4.0, rel=0.05)


def test_view_likelihood_is_decoded_only_when_asked():
    elbo = pair()
    calls = []
    elbo.model.likelihood.decoder.register_forward_hook(lambda *_: calls.append(1))
    with poutine.block(hide=["x"]):
        conditioned = poutine.condition(elbo.model, data={"x": views(3, 2)})
        poutine.trace(conditioned).get_trace(num_groups=3, num_views=2)
    assert not calls
    elbo(views(3, 2))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["content_scale", "style_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_scale_that_is_not_positive_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a positive"):
        pair(**{name: value})


def test_flat_content_refuses_one_view_and_prior_draws():
    elbo = pair(content_scale=math.inf)
    with pytest.raises(InputError, match="without a prior"):
        elbo(views(4, 1))
    with pytest.raises(InputError, match="nothing to sample"):
        elbo.model(num_groups=2, num_views=2)


def test_flat_content_refuses_a_learned_style_scale():
    with pytest.raises(InputError, match="grows without bound"):
        pair(content_scale=math.inf, learn_style_scale="shared")


@pytest.mark.parametrize("sizes", [{"num_views": 0}, {"num_groups": 0}])
def test_empty_plates_are_refused(sizes):
    with pytest.raises(InputError, match="give 1 or more"):
        pair().model(**sizes)
