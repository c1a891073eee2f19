"""Trees of the linear story against its closed forms, and of every story for their shape."""

import arviz_stats
import numpy as np
import pytest
import torch

from pyro_simvae import conjugate, limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField, SphericalMeanField
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.loo import leave_one_view_out
from pyro_simvae.inspection.tree import posterior_tree, readable
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import (
    VAE,
    HeavyTails,
    Hierarchical,
    Instance,
    LinearGaussian,
    Mixture,
    Multimodal,
    PrivateStyle,
    Relevance,
    SimVAE,
    Spherical,
)
from pyro_simvae.networks import MLP, Encoders, Linear

N, J, D, P = 6, 3, 2, 5
SIGMA = 1.5


@pytest.fixture
def linear():
    with rng.isolated(0):
        story = LinearGaussian(Normal(Linear().decoder((P,), D), scale=SIGMA), D, style_scale=0.7).double()
        x = story(num_groups=N, num_views=J).detach()
    return story, x


def pair_of(story_class, **options):
    with rng.isolated(1):
        network = MLP([4])
        story = story_class(Normal(network.decoder((P,), D)), D, **options)
        guide = SphericalMeanField if story_class is Spherical else MeanField
        return LedgerELBO(story, guide(story, network.encoder((P,), D)))


def test_posterior_draws_have_the_moments_of_the_closed_form(linear):
    story, x = linear
    draws = 20_000
    tree = posterior_tree(LedgerELBO(story, Exact(story)), x, num_draws=draws, num_predictive=1)
    with torch.no_grad():
        content, latent = story.content_posterior(x), Exact(story).latent(x)
    for name, exact, dims in (("content", content, "latent"), ("z", latent, "latent")):
        found = tree["posterior"][name]
        mean, scale = exact.mean.reshape(found.shape[2:]), exact.stddev.reshape(found.shape[2:])
        error = np.abs(found.mean(("chain", "draw")).values - mean.numpy())
        assert (error < 5 * scale.numpy() / draws**0.5).all()
        centred = found.values[0] - mean.numpy()
        covariance = np.einsum("s...i,s...j->...ij", centred, centred) / draws
        expected = exact.covariance_matrix.reshape(covariance.shape).numpy()
        np.testing.assert_allclose(covariance, expected, atol=6 * expected.max() / draws**0.5)
        assert found.dims[-1] == dims


def test_every_log_weight_of_the_exact_guide_is_the_evidence(linear):
    story, x = linear
    tree = posterior_tree(LedgerELBO(story, Exact(story)), x, num_draws=30, num_predictive=2)
    evidence = story.evidence(x).detach().numpy()
    found = tree["sample_stats"]["log_weight"]
    assert found.dims == ("chain", "draw", "group")
    np.testing.assert_allclose(found, np.broadcast_to(evidence, found.shape), rtol=1e-6)


def test_densities_and_predictive_draws_are_those_of_the_likelihood(linear):
    story, x = linear
    tree = posterior_tree(LedgerELBO(story, Exact(story)), x, num_draws=4000, num_predictive=4000, seed=3)
    z = torch.from_numpy(tree["posterior"]["z"].values)
    with torch.no_grad():
        density = story.likelihood(z).log_prob(x)
        mean = story.likelihood(z).mean
    np.testing.assert_allclose(tree["log_likelihood"]["x"], density, rtol=1e-8)
    residual = tree["posterior_predictive"]["x"].values - mean.numpy()
    assert residual.std() == pytest.approx(SIGMA, rel=0.02)
    np.testing.assert_array_equal(tree["observed_data"]["x"], x)
    # The prior of a view: N(b, (g² + s²) W Wᵀ + σ² I).
    weight = story.likelihood.decoder.linear.weight.detach()
    variance = (1 + 0.7**2) * weight.square().sum(-1) + SIGMA**2
    found = tree["prior_predictive"]["x"].var(("chain", "draw", "group", "view"))
    np.testing.assert_allclose(found, variance, rtol=0.1)


def test_leave_one_view_out_is_the_closed_form(linear):
    story, x = linear
    tree = posterior_tree(LedgerELBO(story, Exact(story)), x, num_draws=20_000, num_predictive=1)
    with torch.no_grad():
        others = [story.evidence(x[:, [k for k in range(J) if k != j]]) for j in range(J)]
        exact = (story.evidence(x).unsqueeze(1) - torch.stack(others, 1)).numpy()
    loo = leave_one_view_out(tree)
    assert loo["elpd_x"].dims == ("group", "view")
    trusted = loo["pareto_k_x"].values < 0.6
    assert trusted.mean() > 0.7
    np.testing.assert_allclose(loo["elpd_x"].values[trusted], exact[trusted], atol=0.1)
    # The guide is exact, so that ArviZ's own, which takes that for granted, agrees.
    library = arviz_stats.loo(tree, pointwise=True)
    np.testing.assert_allclose(library.elpd_i, loo["elpd_x"], rtol=1e-6)


def test_leave_one_view_out_weighs_draws_that_are_not_from_the_posterior(linear):
    story, x = linear

    class Wide(Exact):
        """The exact posterior of views with twice their distance from the middle: the wrong place."""

        def forward(self, x):
            return super().forward(0.7 * x)

    tree = posterior_tree(LedgerELBO(story, Wide(story)), x, num_draws=20_000, num_predictive=1)
    with torch.no_grad():
        others = [story.evidence(x[:, [k for k in range(J) if k != j]]) for j in range(J)]
        exact = (story.evidence(x).unsqueeze(1) - torch.stack(others, 1)).numpy()
    loo = leave_one_view_out(tree)
    trusted = loo["pareto_k_x"].values < 0.6
    weighed = np.abs(loo["elpd_x"].values - exact)[trusted].mean()
    unweighed = np.abs(arviz_stats.loo(tree, pointwise=True).elpd_i.values - exact)[trusted].mean()
    assert weighed < 0.05
    assert weighed < unweighed / 3


@pytest.mark.parametrize(
    ("story", "options"),
    [
        (SimVAE, {}),
        (SimVAE, {"content_scale": float("inf")}),
        (VAE, {}),
        (Mixture, {"num_clusters": 4}),
        (Instance, {"num_items": 7}),
        (Spherical, {}),
        (PrivateStyle, {"content_dim": 1}),
        (HeavyTails, {}),
        (Hierarchical, {"num_classes": 3}),
        (Relevance, {"num_items": 40}),
    ],
)
def test_every_story_has_its_sites_in_the_tree(story, options):
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    pair = pair_of(story, **options)
    constant = {"label": np.arange(N), "flip": np.zeros((N, J)), "crop_box": np.zeros((N, J, 4))}
    tree = posterior_tree(pair, x, num_draws=8, num_predictive=3, group=range(10, 16), constant=constant)
    assert tree["posterior"]["z"].dims == ("chain", "draw", "group", "view", "latent")
    if "content" in tree["posterior"]:
        assert tree["posterior"]["content"].shape == (1, 8, N, options.get("content_dim", D))
    if story is Relevance:
        assert tree["posterior"]["style_scale"].dims == ("chain", "draw", "latent")
        return  # the weights of its groups depend on each other
    for group in ("posterior", "sample_stats", "log_likelihood", "posterior_predictive", "observed_data"):
        assert tree[group]["group"].values.tolist() == list(range(10, 16))
    assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "group", "view", "value")
    assert tree["constant_data"]["crop_box"].dims == ("group", "view", "crop_box_dim_0")
    proper = options.get("content_scale") is None
    assert ("prior" in tree.children) == proper
    assert bool(readable(pair).left_out) == (not proper)
    # The weights have the mean that the pair's own have.
    with rng.isolated(0), torch.no_grad():
        expected = pair.log_weights(x, 4000).mean(0)
    many = posterior_tree(pair, x, num_draws=4000, num_predictive=1, seed=5)["sample_stats"]["log_weight"]
    error = many.std("draw").values[0] / 4000**0.5
    assert (np.abs(many.mean("draw").values[0] - expected.numpy()) < 6 * error + 1e-3).all()


def test_the_discrete_site_is_drawn_from_its_exact_posterior():
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    pair = pair_of(Mixture, num_clusters=3)
    tree = posterior_tree(pair, x, num_draws=6000, num_predictive=1)
    z = torch.from_numpy(tree["posterior"]["z"].values[0]).flatten(0, 1)
    with torch.no_grad():
        expected = pair.model.responsibilities(z).reshape(6000, N, 3).mean(0).numpy()
    drawn = tree["posterior"]["cluster"].values[0]
    found = np.stack([(drawn == k).mean(0) for k in range(3)], axis=-1)
    np.testing.assert_allclose(found, expected, atol=0.04)
    assert np.abs(expected - 1 / 3).max() > 0.1


def test_of_a_limit_there_is_what_makes_sense():
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    plain = pair_of(SimVAE)
    pair = LedgerELBO(*limits.simclr(temperature=0.5)(plain.model, plain.guide))
    tree = posterior_tree(pair, x, num_draws=50)
    assert set(tree.children) == {"posterior", "observed_data"}
    assert "untrained" in readable(pair).left_out[0]
    z, content = tree["posterior"]["z"], tree["posterior"]["content"]
    assert (z.std("draw") < 1e-6).all()
    assert (content.std("draw") > 0).all()
    assert float((z**2).sum("latent").std()) < 1e-4  # on the sphere


def test_between_story_and_limit_the_weights_are_those_of_the_draws():
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    plain = pair_of(SimVAE)
    pair = LedgerELBO(*limits.vicreg(t=0.5)(plain.model, plain.guide))
    tree = posterior_tree(pair, x, num_draws=20, num_predictive=1)
    z = torch.from_numpy(tree["posterior"]["z"].values)
    with torch.no_grad(), local_params(plain):
        base = plain.guide.latent(x)
        # z = (1 - t) z₀ + t unit loc, z₀ ~ Normal(loc, scale): a Normal of half the scale.
        middle = 0.5 * (1 + pair.model.latents.unit) * base.mean
        drawn = torch.distributions.Normal(middle, 0.5 * base.stddev).log_prob(z).sum((-2, -1))
        evidence = conjugate.group_evidence(z, plain.model.style_scale, plain.model.content_scale)
        view = plain.model.likelihood(z).log_prob(x).sum(-1)
    np.testing.assert_allclose(tree["sample_stats"]["log_weight"], view + evidence - drawn, rtol=1e-4)


def test_observed_labels_are_observed_and_not_drawn():
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    pair = pair_of(Hierarchical, num_classes=3, observe_labels=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    tree = posterior_tree(pair, x, num_draws=8, num_predictive=2, labels=labels)
    assert "label" not in tree["posterior"]
    np.testing.assert_array_equal(tree["observed_data"]["label"], labels)


def test_missing_modalities_are_marked():
    generator = torch.Generator().manual_seed(0)
    views = {"image": torch.rand(4, P, generator=generator), "text": torch.rand(4, 3, generator=generator)}
    present = torch.tensor([[True, True], [False, True], [True, True], [True, False]])
    with rng.isolated(0):
        networks = {name: MLP([4]) for name in views}
        likelihoods = {name: Normal(networks[name].decoder(view.shape[1:], D)) for name, view in views.items()}
        encoders = Encoders({name: networks[name].encoder(view.shape[1:], D) for name, view in views.items()})
        story = Multimodal(likelihoods, D)
        pair = LedgerELBO(story, MeanField(story, encoders))
    tree = posterior_tree(pair, Modalities(views, present), num_draws=6, num_predictive=2)
    np.testing.assert_array_equal(tree["constant_data"]["present"], present)
    np.testing.assert_array_equal(tree["posterior"]["z"].isnull().all(("chain", "draw", "latent")), ~present)
    assert tree["sample_stats"]["log_weight"].notnull().all()


def test_a_tree_without_densities_is_refused():
    x = torch.randn(N, J, P, generator=torch.Generator().manual_seed(0))
    plain = pair_of(SimVAE)
    tree = posterior_tree(LedgerELBO(*limits.simclr()(plain.model, plain.guide)), x, num_draws=5)
    with pytest.raises(InputError, match="the tree has no log_likelihood"):
        leave_one_view_out(tree)
