"""The story on the sphere and its guide."""

import itertools

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch.nn import functional as F

from pyro_simvae import cli, limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField, SphericalMeanField
from pyro_simvae.guides.spherical import on_sphere
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import VAE, Spherical
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story
from pyro_simvae.spherical import PowerSpherical

P, D = 5, 3


def pair(dim=D, **arguments):
    torch.manual_seed(0)
    model = Spherical(Normal(MLP([8]).decoder((P,), dim)), dim, **arguments)
    return LedgerELBO(model, SphericalMeanField(model, MLP([8]).encoder((P,), dim))).double()


def views(num_groups, num_views):
    return torch.randn(num_groups, num_views, P, dtype=torch.float64)


@pytest.mark.parametrize(("dim", "num_views"), [*itertools.product([2, 3, 8], [1, 2, 3])])
def test_ledger_is_trace_elbo(dim, num_views):
    elbo, x = pair(dim), views(4, num_views)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with local_params(elbo):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    parameters = list(elbo.parameters())
    found, expected = (torch.autograd.grad(value, parameters) for value in (ledger.objective, reference))
    torch.testing.assert_close(found, expected)
    assert set(ledger.terms) == {"log_p/content", "log_p/z", "log_p/x", "log_q/z", "log_q/content"}


def test_everything_drawn_is_a_direction():
    elbo, x = pair(), views(4, 3)
    with local_params(elbo):
        guide = poutine.trace(elbo.guide).get_trace(x)
    for name, shape in (("z", (4, 3, D)), ("content", (4, 1, D))):
        value = guide.nodes[name]["value"]
        assert value.shape == shape
        torch.testing.assert_close(value.norm(dim=-1), torch.ones(shape[:-1], dtype=torch.float64))


def test_importance_weights_of_the_guide_give_the_evidence_of_the_latents():
    """log E_q(c|z)[p(c) Π_j p(z_j | c) / q(c | z)] is ∫ over the circle, summed on a fine grid."""
    elbo, z = pair(2, concentration=5.0), F.normalize(torch.randn(3, 2, 2, dtype=torch.float64), dim=-1)
    angles = torch.linspace(0, 2 * torch.pi, 4001, dtype=torch.float64)[:-1]
    grid = torch.stack([angles.cos(), angles.sin()], -1)
    likelihood = sum(elbo.model.latent(grid[:, None]).log_prob(z[:, j]) for j in range(2))  # (grid, N)
    exact = likelihood.exp().mean(0).log()  # the mean over the circle: uniform content
    content = elbo.guide.content(z)
    q = on_sphere(content.mean, content.stddev)
    c = q.sample((200_000,))
    weights = elbo.model.content().log_prob(c).squeeze(-1) - q.log_prob(c).squeeze(-1)
    weights = weights + elbo.model.latent(c).log_prob(z).sum(-1)
    torch.testing.assert_close(weights.exp().mean(0).log(), exact, rtol=0, atol=0.05)


def test_prior_draws_are_uniform_contents_and_concentrated_latents():
    elbo = pair(concentration=20.0)
    draws = Predictive(elbo.model, num_samples=2)(num_groups=4, num_views=3)
    assert draws["x"].shape == (2, 4, 3, P)
    trace = poutine.trace(elbo.model).get_trace(num_groups=20_000, num_views=2)
    content, z = trace.nodes["content"]["value"], trace.nodes["z"]["value"]
    torch.testing.assert_close(content.mean((0, 1)), torch.zeros(D, dtype=torch.float64), rtol=0, atol=0.02)
    assert (content * z).sum(-1).mean().item() == pytest.approx(20 / 22, abs=0.005)


def test_trains_in_plain_pyro():
    elbo, x = pair(), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    pyro.clear_param_store()


def test_fits_from_the_command_line(images, tmp_path):
    run = tmp_path / "run"
    options = "--network mlp --network.hidden [8] --latent_dim 3 --training.epochs 2 --training.num_groups 8"
    fit = ["fit", "--data", f"arrays:{images}", *options.split(), "--model", "spherical", "--guide", "spherical"]
    assert cli.main([*fit, "--out", str(run)]) == 0
    assert cli.main(["sample", str(run), "--num_groups", "2", "--num_views", "3"]) == 0
    assert np.load(run / "samples" / "seed-0-2x3.npz")["content"].shape == (2, 1, 3)


def test_check_accepts_the_story():
    check_story(pair().model, D, 2)


def test_guide_follows_a_story_without_content():
    model = VAE(Normal(MLP([8]).decoder((P,), D)), D)
    assert SphericalMeanField(model, MLP([8]).encoder((P,), D)).content is None


def test_normal_guide_and_limits_are_refused():
    model = pair().model
    with pytest.raises(InputError, match="use --guide spherical"):
        MeanField(model, MLP([8]).encoder((P,), D))
    with pytest.raises(InputError, match="PowerSpherical, whose dimensions may depend on each other"):
        limits.simclr()(model, pair().guide)


def test_concentration_of_a_normals_scale():
    q = on_sphere(torch.tensor([3.0, 4.0]), torch.tensor([0.1, 0.3]))
    assert isinstance(q, PowerSpherical)
    torch.testing.assert_close(q.loc, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(q.concentration, torch.tensor(2 / 0.05))


def test_degenerate_spheres_are_refused():
    with pytest.raises(InputError, match="needs 2 or more"):
        pair(1)
    for concentration in (0.0, float("inf")):
        with pytest.raises(InputError, match="concentration is"):
            pair(concentration=concentration)
