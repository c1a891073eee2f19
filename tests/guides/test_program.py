"""What all amortized guides share: sites and plates, Pyro's own inference, the ledger, a fit."""

import copy

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Flow, FullCovariance, MeanField, SemiAmortized
from pyro_simvae.guides.program import encode
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import VAE, HeavyTails, Mixture, Multimodal, PrivateStyle, Relevance, SimVAE, Spherical
from pyro_simvae.networks import MLP, Encoders

P, D = 5, 3
GUIDES = [MeanField, FullCovariance, Flow, SemiAmortized]


def likelihood(size=P):
    return Normal(MLP([4]).decoder((size,), D), scale=0.5)


def pair(guide, story=SimVAE, **arguments):
    with isolated(0):
        model = story(likelihood(), D, **arguments)
        return LedgerELBO(model, guide(model, MLP([4]).encoder((P,), D))).double()


def views(num_groups=6, num_views=2):
    with isolated(1):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize(
    ("story", "arguments", "content_dim"),
    [(SimVAE, {}, D), (VAE, {}, 0), (PrivateStyle, {"content_dim": 2}, 2), (HeavyTails, {}, D)],
)
def test_ledger_is_pyros_elbo_in_value_and_gradient(guide, story, arguments, content_dim):
    elbo, x = pair(guide, story, **arguments), views()
    with isolated(2):
        ledger = elbo(x)
    with isolated(2), local_params(elbo), pyro.validation_enabled(True):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    parameters = list(elbo.parameters())
    found, expected = (torch.autograd.grad(value, parameters) for value in (ledger.objective, reference))
    torch.testing.assert_close(found, expected)
    encoder = torch.autograd.grad(elbo(x).objective, list(elbo.guide.encoder.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in encoder)

    nodes = poutine.trace(elbo.guide).get_trace(x).nodes
    assert nodes["z"]["value"].shape == (6, 2, D)
    assert {frame.name: frame.dim for frame in nodes["z"]["cond_indep_stack"]} == {"groups": -2, "views": -1}
    assert ("content" in nodes) == (content_dim > 0)
    if content_dim:
        assert nodes["content"]["value"].shape == (6, 1, content_dim)
        assert {frame.name: frame.dim for frame in nodes["content"]["cond_indep_stack"]} == {"groups": -2}
    latent = elbo.guide.latent(x)
    assert (latent.batch_shape, latent.event_shape) == ((6, 2), (D,))
    torch.testing.assert_close(latent.variance.sqrt(), latent.stddev)


@pytest.mark.parametrize("guide", GUIDES)
def test_particles_have_each_a_draw_and_its_density(guide):
    elbo, x = pair(guide), views()
    weights = elbo.log_weights(x, 2000)
    assert weights.shape == (2000, 6)
    one = torch.stack([elbo(x).elbo for _ in range(200)])
    error = one.std() / 200**0.5 + weights.sum(1).std() / 2000**0.5
    assert (weights.mean(0).sum() - one.mean()).abs() < 4 * error


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("story", [SimVAE, Mixture])
def test_plain_pyro_trains_and_predicts(guide, story):
    elbo, x = pair(guide, story), views()
    loss = TraceEnum_ELBO(max_plate_nesting=2) if story is Mixture else Trace_ELBO()
    pyro.clear_param_store()
    with isolated(2), pyro.validation_enabled(True):
        svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), loss)
        losses = [svi.step(x) for _ in range(30)]
        assert len(pyro.get_param_store()) == len(list(elbo.parameters()))
        for parallel in (False, True):
            draws = Predictive(elbo.guide, num_samples=3, parallel=parallel)(x)
            assert draws["z"].shape == (3, 6, 2, D)
            posterior = Predictive(elbo.model, guide=elbo.guide, num_samples=3, parallel=parallel)
            assert posterior(x)["z"].shape == (3, 6, 2, D)
    pyro.clear_param_store()
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("guide", GUIDES)
def test_latent_is_no_random_number_and_each_groups_own(guide):
    elbo, x = pair(guide), views()
    state = torch.get_rng_state()
    with torch.no_grad():
        first, again, alone = (elbo.guide.latent(views) for views in (x, x, x[2:3]))
        for name in ("mean", "stddev"):
            assert torch.equal(getattr(first, name), getattr(again, name))
            torch.testing.assert_close(getattr(first, name)[2:3], getattr(alone, name))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("guide", GUIDES)
def test_own_parameters_only_and_a_copy_is_a_copy(guide):
    elbo, x = pair(guide), views()
    parts = ("encoder.", "content.", "off_diagonal.", "bend.")
    assert all(name.startswith(parts) for name in elbo.guide.state_dict())
    twin = copy.deepcopy(elbo.guide)
    torch.testing.assert_close(twin.latent(x).mean, elbo.guide.latent(x).mean)


@pytest.mark.parametrize("guide", GUIDES)
def test_under_autocast_densities_keep_their_precision(guide):
    with isolated(0):
        model = SimVAE(likelihood(), D)
        amortized, x = guide(model, MLP([4]).encoder((P,), D)), torch.randn(6, 2, P)
        with torch.no_grad():
            for parameter in amortized.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latent = amortized.latent(x)
            z = latent.rsample()
            log_prob = latent.log_prob(z.clone())
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, latent.log_prob(z.clone()))


@pytest.mark.parametrize("guide", [FullCovariance, Flow, SemiAmortized])
def test_fits_digits(guide, fit_images):
    name = f"pyro_simvae.guides.{guide.__name__}"
    run = fit_images(data="digits", training={"epochs": 2, "num_groups": 128}, guide=name)
    lines = (run / "metrics.csv").read_text().splitlines()
    objective = lines[0].split(",").index("train/elbo")
    first, last = (float(line.split(",")[objective]) for line in (lines[1], lines[-1]))
    assert last > first


@pytest.mark.parametrize("guide", GUIDES)
def test_directions_are_refused(guide):
    model = Spherical(likelihood(), D)
    with pytest.raises(InputError, match="latents lie on a sphere"):
        guide(model, MLP([4]).encoder((P,), D))


@pytest.mark.parametrize("projection", [[], [7]])
def test_features_and_posterior_of_one_pass_are_the_encoders(projection):
    with isolated(0):
        encoder = MLP([4]).encoder((P,), D).projected(projection).double()
    features, loc, scale = encode(encoder, views())
    assert torch.equal(features, encoder.before_projection(views()))
    torch.testing.assert_close((loc, scale), encoder(views()))


def modalities():
    with isolated(0):
        model = Multimodal({"a": likelihood(5), "b": likelihood(7)}, D)
        encoders = Encoders({"a": MLP([4]).encoder((5,), D), "b": MLP([4]).encoder((7,), D)})
        x = Modalities({"a": torch.randn(3, 5), "b": torch.randn(3, 7)}, torch.tensor([[1, 1], [1, 0], [0, 1]]).bool())
    return model, encoders, x


@pytest.mark.parametrize("guide", [MeanField, SemiAmortized])
def test_modalities_may_be_missing(guide):
    model, encoders, x = modalities()
    amortized = guide(model, encoders)
    assert LedgerELBO(model, amortized)(x).objective.isfinite()
    other = Modalities({"a": x.views["a"], "b": x.views["b"] + 1}, x.present)  # of the missing, one looks at zeros
    torch.testing.assert_close(amortized.latent(other).mean[1, 0], amortized.latent(x).mean[1, 0])


@pytest.mark.parametrize(("guide", "name"), [(FullCovariance, "full_covariance"), (Flow, "flow")])
def test_an_encoder_a_modality_is_refused(guide, name):
    model, encoders, _ = modalities()
    with pytest.raises(InputError, match=f"the guide {name} reads the features of one encoder"):
        guide(model, encoders)


def test_a_site_of_all_groups_is_sampled_once():
    elbo, x = pair(FullCovariance, Relevance, num_items=60), views()
    assert poutine.trace(elbo.guide).get_trace(x).nodes["style_scale"]["value"].shape == (D,)
