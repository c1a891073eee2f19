"""The heavy-tailed story: its density, its limit SimVAE, how outliers pull, and what it refuses."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from scipy import stats

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.guides import AmortizedContent, MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import HeavyTails, SimVAE
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D = 5, 4


def story(cls=HeavyTails, latent_dim=D, **arguments):
    return cls(Normal(MLP([4]).decoder((P,), latent_dim)), latent_dim, **arguments)


def pair(cls=HeavyTails, **arguments):
    with isolated(0):
        model = story(cls, **arguments)
        return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D), content="amortized")).double()


def views(num_groups, num_views):
    with isolated(2):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


def test_latents_have_the_density_of_students_t():
    elbo, x = pair(degrees_of_freedom=3.0, style_scale=0.7, content_scale=2.0), views(6, 3)
    with isolated(1):
        terms = elbo(x).terms
    with isolated(1), local_params(elbo):
        nodes = poutine.trace(elbo.guide).get_trace(x).nodes
    content, z = (nodes[name]["value"].detach().numpy() for name in ("content", "z"))
    assert terms["log_p/content"].item() == pytest.approx(stats.norm.logpdf(content, scale=2.0).sum())
    assert terms["log_p/z"].item() == pytest.approx(stats.t.logpdf(z, df=3.0, loc=content, scale=0.7).sum())


def value_and_gradient(elbo, x):
    with isolated(1):
        value = elbo(x).objective
    return value.item(), torch.cat([g.flatten() for g in torch.autograd.grad(value, list(elbo.parameters()))])


@pytest.mark.parametrize("num_views", [1, 3])
def test_many_degrees_of_freedom_are_simvae(num_views):
    x = views(6, num_views)
    value, gradient = value_and_gradient(pair(SimVAE), x)
    values, errors = [], []
    for degrees in (1e3, 1e5):
        found, slope = value_and_gradient(pair(degrees_of_freedom=degrees), x)
        values.append(abs(found - value))
        errors.append((slope - gradient).norm().item())
    # The difference falls as 1/ν.
    assert values[0] / values[1] == pytest.approx(100, rel=0.1)
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)
    assert errors[1] < 1e-2 * gradient.norm().item()


def test_an_outlying_view_pulls_its_content_less_than_under_simvae():
    model = story(latent_dim=1)
    views = torch.tensor([0.0, 0.1, -0.1, 3.0])
    grid = torch.linspace(-6, 6, 4001)
    log_joint = model.content().log_prob(grid[:, None]) + model.latent(grid[:, None, None]).log_prob(
        views[:, None]
    ).sum(-1)
    mean = (log_joint.softmax(0) * grid).sum().item()
    gaussian = conjugate.content_posterior(views[:, None], model.style_scale, model.content_scale).mean.item()
    assert 0 < mean < 0.3 * gaussian


def test_style_has_the_stated_variance():
    with isolated(0):
        sites = poutine.trace(story(degrees_of_freedom=10.0)).get_trace(num_groups=40_000, num_views=1).nodes
    style = sites["z"]["value"] - sites["content"]["value"]
    assert style.var().item() == pytest.approx(0.4**2 * 10 / 8, rel=0.03)


def test_content_guide_is_amortized():
    model = story()
    assert isinstance(MeanField(model, MLP([4]).encoder((P,), D)).content, AmortizedContent)
    with pytest.raises(InputError, match="not exact here"):
        MeanField(model, MLP([4]).encoder((P,), D), content="conjugate")


def test_prior_draws_have_the_shapes_of_the_plates():
    check_story(story(), D, 2)
    draws = Predictive(story(), num_samples=2)(num_groups=6, num_views=3)
    shapes = {"content": (2, 6, 1, D), "z": (2, 6, 3, D), "x": (2, 6, 3, P)}
    assert {name: draws[name].shape for name in shapes} == shapes


def log_joint(model, values):
    """log p(x, z, c) of each group, `(N,)`."""
    with local_params(model):
        trace = poutine.trace(poutine.condition(model, values)).get_trace(values["x"])
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"].sum(-1) for name in values)


def test_order_of_groups_and_of_views_does_not_matter():
    model = pair().model
    with isolated(3):
        sites = poutine.trace(model).get_trace(num_groups=6, num_views=3).nodes
        groups, order = torch.randperm(6), torch.randperm(3)
    values = {name: sites[name]["value"] for name in ("content", "z", "x")}
    expected = log_joint(model, values)
    torch.testing.assert_close(log_joint(model, {k: v[groups] for k, v in values.items()}), expected[groups])
    shuffled = values | {name: values[name][:, order] for name in ("z", "x")}
    torch.testing.assert_close(log_joint(model, shuffled), expected)


def test_trains_in_plain_pyro():
    elbo, x = pair(), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    with isolated(1):
        losses = [svi.step(x) for _ in range(60)]
    pyro.clear_param_store()
    assert sum(losses[-10:]) < sum(losses[:10])


def test_fits_digits(fit_images):
    fit_images(data="digits", training={"epochs": 1, "num_groups": 64}, model="pyro_simvae.models.HeavyTails")


@pytest.mark.parametrize("name", ["degrees_of_freedom", "style_scale", "content_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_arguments_that_are_not_positive_and_finite_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a positive finite number"):
        story(**{name: value})
