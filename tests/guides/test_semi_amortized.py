"""The semi-amortized guide: where its steps lead on the linear story, what they leave alone, what they refuse."""

import math

import pytest
import torch

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField, SemiAmortized
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import Hierarchical, Instance, LinearGaussian, Mixture, SimVAE
from pyro_simvae.networks import MLP, Linear

P, D = 6, 3


def linear_pair(**arguments):
    with isolated(0):
        model = LinearGaussian(Normal(Linear().decoder((P,), D), scale=0.6), D)
        return LedgerELBO(model, SemiAmortized(model, Linear().encoder((P,), D), **arguments)).double()


def views(num_groups=5, num_views=2):
    with isolated(1):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_steps_lead_to_the_exact_posterior_mean_of_the_group(num_views):
    elbo, x = linear_pair(steps=800, learning_rate=0.8), views(5, num_views)
    with torch.no_grad():  # a scale of 0.3 everywhere, for which these steps are stable
        elbo.guide.encoder.head.weight[D:] = 0
        elbo.guide.encoder.head.bias[D:] = math.log(math.expm1(0.3))
    exact = Exact(elbo.model).latent(x)
    torch.testing.assert_close(elbo.guide.latent(x).mean, exact.mean, rtol=1e-6, atol=1e-6)


def test_every_step_raises_the_elbo():
    elbo, x = linear_pair(learning_rate=0.2), views()
    values = []
    for steps in (0, 1, 2, 4, 8, 16):
        elbo.guide.steps = steps
        with isolated(2), torch.no_grad():
            values.append(elbo.log_weights(x, 200).mean().item())
    assert values == sorted(values)
    assert values[1] - values[0] > 0.1
    start = LedgerELBO(elbo.model, MeanField(elbo.model, elbo.guide.encoder)).double()
    with isolated(2), torch.no_grad():
        assert start.log_weights(x, 200).mean().item() == pytest.approx(values[0])


def test_a_step_is_a_clamped_natural_gradient():
    elbo, x = linear_pair(steps=1, learning_rate=0.3), views()
    model, (loc, scale) = elbo.model, elbo.guide.encoder(x)
    z = loc.detach().requires_grad_()
    joint = model.likelihood(z).log_prob(x).sum() + conjugate.group_evidence(z, 0.4, 1.0).sum()
    (gradient,) = torch.autograd.grad(joint, z)
    step = (scale * gradient).clamp(-1, 1)
    assert (step.abs() == 1).any()
    assert (step.abs() < 1).any()
    torch.testing.assert_close(elbo.guide.latent(x).mean, loc + 0.3 * scale * step)
    torch.testing.assert_close(elbo.guide.latent(x).stddev, scale)


def test_gradient_passes_the_steps_as_they_are_and_nothing_else_gets_one():
    elbo, x = linear_pair(), views()
    parameters = list(elbo.guide.encoder.parameters())
    direction = torch.randn(5, 2, D, dtype=torch.float64)
    locs = elbo.guide.latent(x).mean, elbo.guide.encoder(x)[0]
    found, expected = (torch.autograd.grad((loc * direction).sum(), parameters) for loc in locs)
    torch.testing.assert_close(found, expected)
    assert all(parameter.grad is None for parameter in elbo.parameters())


@pytest.mark.parametrize("story", [Mixture, Hierarchical])
def test_discrete_sites_are_summed_out(story):
    with isolated(0):
        model = story(Normal(MLP([4]).decoder((P,), D)), D).double()
        guide = SemiAmortized(model, MLP([4]).encoder((P,), D), steps=1).double()
    x = views()
    loc, scale = guide.encoder(x)
    z = loc.detach().requires_grad_()
    joint = model.likelihood(z).log_prob(x).sum()
    if story is Mixture:
        joint = joint + model.evidence(z).sum()
    else:
        content = guide.content(z)
        label = model.label().logits.log_softmax(-1) + model.content(torch.arange(10)).log_prob(content.mean)
        joint = joint + label.logsumexp(-1).sum() + model.latent(content.mean).log_prob(z).sum()
        joint = joint - content.log_prob(content.mean).sum()
    (gradient,) = torch.autograd.grad(joint, z)
    torch.testing.assert_close(guide.latent(x).mean, loc + 0.3 * scale * (scale * gradient).clamp(-1, 1))


def test_what_the_story_observes_is_observed_in_the_steps():
    with isolated(0):
        model = Instance(Normal(MLP([4]).decoder((P,), D)), D, num_items=20).double()
        guide = SemiAmortized(model, MLP([4]).encoder((P,), D), steps=1).double()
    x, index = views(), torch.tensor([3, 1, 4, 1, 5])
    elbo = LedgerELBO(model, guide)
    assert guide.observes == elbo.observes == {"index"}
    z = guide.encoder(x)[0].detach().requires_grad_()
    joint = model.likelihood(z).log_prob(x).sum() + model.latent(model.locs[index.unsqueeze(-1)]).log_prob(z).sum()
    (gradient,) = torch.autograd.grad(joint, z)
    loc, scale = guide.encoder(x)
    moved = guide.latent(x, index=index).mean
    torch.testing.assert_close(moved, loc + 0.3 * scale * (scale * gradient).clamp(-1, 1))
    assert not torch.allclose(moved, guide.latent(x).mean)
    assert elbo(x, index=index).objective.isfinite()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
    ],
)
def test_numbers_that_are_not_positive_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        linear_pair(**arguments)


def test_flat_content_is_refused():
    model = SimVAE(Normal(MLP([4]).decoder((P,), D)), D, content_scale=float("inf"))
    with pytest.raises(InputError, match="under flat content a view by itself has no ELBO"):
        SemiAmortized(model, MLP([4]).encoder((P,), D))
