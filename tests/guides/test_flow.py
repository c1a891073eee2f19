"""The flow guide: a normalized density, its draws, its moments, and a bent posterior that mean field cannot follow."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Flow, MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE
from pyro_simvae.networks import MLP, Linear

P, D = 4, 2


def flow(shake=0.1, latent_dim=D, **arguments):
    """A guide whose flow is bent by random weights, and views."""
    with isolated(0):
        model = VAE(Normal(MLP([4]).decoder((P,), latent_dim)), latent_dim)
        guide = Flow(model, MLP([8]).encoder((P,), latent_dim), **arguments).double()
        x = torch.randn(3, 2, P, dtype=torch.float64)
        with torch.no_grad():
            for parameter in guide.bend.parameters():
                parameter += shake * torch.randn_like(parameter)
    return guide, x


def test_starts_as_mean_field_exactly():
    guide, x = flow(shake=0)
    latent, (loc, scale) = guide.latent(x), guide.encoder(x)
    torch.testing.assert_close(latent.mean, loc)
    torch.testing.assert_close(latent.stddev, scale, rtol=1e-6, atol=0)
    z = latent.sample()
    torch.testing.assert_close(latent.log_prob(z), torch.distributions.Normal(loc, scale).log_prob(z).sum(-1))


def test_density_integrates_to_one():
    guide, x = flow()
    latent = guide.latent(x[:1, :1])
    axis = torch.linspace(-9, 9, 250, dtype=torch.float64)
    grid = latent.loc + latent.scale * torch.cartesian_prod(axis, axis)[:, None, None]
    with torch.no_grad():
        mass = latent.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2 * latent.scale.prod()
    assert mass.item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_density_of_a_draw_is_that_of_the_change_of_variables(latent_dim):
    guide, x = flow(latent_dim=latent_dim)
    latent = guide.latent(x[:1, :1])
    with isolated(1):
        noise = torch.randn(latent_dim, dtype=torch.float64)

    def value(noise):
        return (latent.loc + latent.scale * latent.f(noise))[0, 0]

    _, log_det = torch.linalg.slogdet(jacobian(value, noise))
    expected = -noise.square().sum() / 2 - latent_dim * math.log(2 * math.pi) / 2 - log_det
    torch.testing.assert_close(latent.log_prob(value(noise))[0, 0], expected, rtol=1e-6, atol=1e-6)


def test_density_of_its_own_draw_needs_no_inverse_and_is_the_same():
    guide, x = flow()
    latent = guide.latent(x).expand((7, 3, 2))
    with isolated(1):
        z = latent.rsample()
    assert z.shape == (7, 3, 2, D)
    own, anew = latent.log_prob(z), latent.log_prob(z.clone())
    torch.testing.assert_close(own, anew, rtol=1e-6, atol=1e-6)
    parameters = list(guide.bend.parameters())
    found, expected = (torch.autograd.grad(v.sum(), parameters, retain_graph=True) for v in (own, anew))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    z = latent.sample()
    assert latent.log_prob(z).requires_grad  # of a draw without gradients, as a score function needs it


def test_mean_and_standard_deviation_are_those_of_draws():
    guide, x = flow(latent_dim=5)
    with isolated(1), torch.no_grad():
        latent = guide.latent(x)
        draws = latent.sample((5000,))
    scale = draws.std(0)
    assert ((latent.mean - latent.loc) / scale).abs().max() > 0.3  # the bend moves the mean
    assert ((latent.mean - draws.mean(0)) / scale).abs().max() < 0.15
    assert (latent.stddev / scale - 1).abs().max() < 0.15


class Parabola(nn.Module):
    """x = z_2 + z_1²."""

    event_shape = torch.Size((1,))

    def forward(self, z):
        return z[..., 1:] + z[..., :1].square()


def test_follows_a_bent_posterior_where_mean_field_cannot():
    model = VAE(Normal(Parabola(), scale=0.3), 2)
    x = torch.full((256, 1, 1), 1.5)
    axis = torch.linspace(-6, 6, 800)
    grid = torch.cartesian_prod(axis, axis)
    joint = torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(-1)
    joint += torch.distributions.Normal(Parabola()(grid)[:, 0], 0.3).log_prob(torch.tensor(1.5))
    evidence = (joint.logsumexp(0) + 2 * (axis[1] - axis[0]).log()).item()

    values = []
    for guide in (MeanField, Flow):
        with isolated(3):
            elbo = LedgerELBO(model, guide(model, Linear().encoder((1,), 2)))
            optimizer = torch.optim.Adam(elbo.guide.parameters(), 1e-2)
            for _ in range(400):
                optimizer.zero_grad()
                (-elbo(x).objective / len(x)).backward()
                optimizer.step()
            with torch.no_grad():
                values.append(elbo.log_weights(x, 40).mean().item())
    mean_field, bent = values
    assert mean_field + 0.3 < bent < evidence
    assert evidence - bent < 0.5 * (evidence - mean_field)


def test_pytorchs_validation_is_left_on(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)
    for validation in (True, False):
        monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", validation)
        flow()
        assert torch.distributions.Distribution._validate_args is validation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transforms": 0}, "transforms is 0"),
        ({"hidden": ()}, "hidden widths of the flow"),
        ({"hidden": (8, 0)}, "hidden widths of the flow"),
    ],
)
def test_a_flow_of_nothing_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        flow(**arguments)
