"""The private-style story: shared and private dimensions against the joint normal density, and what it refuses."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch.distributions import MultivariateNormal
from torch.distributions import Normal as Gaussian

from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import VAE, PrivateStyle
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D, C = 5, 4, 3


def story(cls=PrivateStyle, **arguments):
    return cls(Normal(MLP([4]).decoder((P,), D)), D, **arguments)


def pair(**arguments):
    with isolated(0):
        model = story(**({"content_dim": C} | arguments))
        return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))).double()


def views(num_groups, num_views):
    with isolated(2):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


def joint_normal(z, style_scale, content_scale):
    """log p(z_1..J), `(N,)`: a dimension's views are jointly normal, correlated through content or not at all."""
    eye, ones = torch.eye(z.shape[1], dtype=z.dtype), torch.ones(z.shape[1], z.shape[1], dtype=z.dtype)
    covariances = [style_scale**2 * eye + content_scale**2 * ones] * C + [eye] * (D - C)
    zero = torch.zeros(z.shape[1], dtype=z.dtype)
    return sum(MultivariateNormal(zero, cov).log_prob(z[..., d]) for d, cov in enumerate(covariances))


@pytest.mark.parametrize("scales", [{}, {"style_scale": 0.5, "content_scale": 2.0}])
@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_program_with_conjugate_content_is_the_collapsed_elbo(scales, num_views):
    elbo, x = pair(**scales), views(6, num_views)
    with isolated(1):
        value = elbo(x).objective
    with isolated(1):
        loc, scale = elbo.guide.encoder(x)
        z = loc + scale * torch.randn_like(loc)
    evidence = joint_normal(z, elbo.model.style_scale, elbo.model.content_scale).sum()
    reference = elbo.model.likelihood(z).log_prob(x).sum() - Gaussian(loc, scale).log_prob(z).sum() + evidence
    torch.testing.assert_close(value, reference, rtol=1e-10, atol=0)
    parameters = list(elbo.parameters())
    for one, other in zip(*(torch.autograd.grad(v, parameters) for v in (value, reference)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def test_style_part_is_that_of_a_vae():
    with isolated(0):
        sites = [
            poutine.trace(cls).get_trace(num_groups=2, num_views=3).nodes["z"]["fn"] for cls in (story(), story(VAE))
        ]
    ours, theirs = (site.base_dist for site in sites)
    half = D // 2
    torch.testing.assert_close(ours.loc[..., half:], theirs.loc.expand(2, 3, D)[..., half:])
    torch.testing.assert_close(ours.scale[..., half:], theirs.scale.expand(2, 3, D)[..., half:])
    assert (ours.scale[..., :half] < 1).all()


def test_prior_draws_share_the_content_part_only():
    model = story(content_dim=C)
    draws = Predictive(model, num_samples=2)(num_groups=6, num_views=3)
    assert draws["content"].shape == (2, 6, 1, C)
    assert draws["z"].shape == (2, 6, 3, D)
    assert draws["x"].shape == (2, 6, 3, P)
    with isolated(0):
        z = poutine.trace(model).get_trace(num_groups=20_000, num_views=2).nodes["z"]["value"]
    correlations = [torch.corrcoef(z[..., d].T)[0, 1].item() for d in range(D)]
    assert correlations == pytest.approx([1 / 1.01] * C + [0.0] * (D - C), abs=0.03)


def log_joint(model, values):
    """log p(x, z, c) of each group, `(N,)`."""
    with local_params(model):
        trace = poutine.trace(poutine.condition(model, values)).get_trace(values["x"])
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"].sum(-1) for name in values)


def test_order_of_groups_and_of_views_does_not_matter():
    with isolated(3):
        model = story(content_dim=C).double()
        sites = poutine.trace(model).get_trace(num_groups=6, num_views=3).nodes
        groups, order = torch.randperm(6), torch.randperm(3)
    values = {name: sites[name]["value"] for name in ("content", "z", "x")}
    expected = log_joint(model, values)
    torch.testing.assert_close(log_joint(model, {k: v[groups] for k, v in values.items()}), expected[groups])
    shuffled = values | {name: values[name][:, order] for name in ("z", "x")}
    torch.testing.assert_close(log_joint(model, shuffled), expected)


def test_trains_in_plain_pyro():
    elbo, x = pair(style_scale=0.4), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    with isolated(1):
        losses = [svi.step(x) for _ in range(60)]
    pyro.clear_param_store()
    assert sum(losses[-10:]) < sum(losses[:10])


def test_fits_digits(fit_images):
    fit_images(data="digits", training={"epochs": 1, "num_groups": 64}, model="pyro_simvae.models.PrivateStyle")


@pytest.mark.parametrize(("latent_dim", "content_dim"), [(2, 1), (5, 2), (24, 12)])
def test_content_has_half_of_the_dimensions_by_default(latent_dim, content_dim):
    model = PrivateStyle(Normal(MLP([4]).decoder((P,), latent_dim)), latent_dim)
    check_story(model, latent_dim, 2)
    assert model.content().event_shape == (content_dim,)


@pytest.mark.parametrize("content_dim", [0, D, D + 1])
def test_a_content_of_nothing_or_of_everything_is_refused(content_dim):
    with pytest.raises(InputError, match=f"content_dim is {content_dim} of latent_dim {D}.*give 1 <= content_dim"):
        story(content_dim=content_dim)


def test_one_dimension_cannot_be_split():
    with pytest.raises(InputError, match="give 1 <= content_dim"):
        PrivateStyle(Normal(MLP([4]).decoder((P,), 1)), 1)


@pytest.mark.parametrize("name", ["content_scale", "style_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_scale_that_is_not_positive_and_finite_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a positive finite number"):
        story(**{name: value})
