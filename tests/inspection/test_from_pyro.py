"""Trees of plain Pyro programs against what is known of them."""

import arviz_stats
import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.inspection.from_pyro import from_pyro

Y = torch.tensor([0.3, -1.0, 2.0, 0.5])


def model(y, noise=0.5):
    """m ~ N(0, 4), w ~ N(0, I) of two, y_i ~ N(m + w_1 + w_2, noise²)."""
    m = pyro.sample("m", dist.Normal(0.0, 2.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    total = pyro.deterministic("total", m + w.sum(-1))
    with pyro.plate("item", len(y)):
        pyro.sample("y", dist.Normal(total, noise), obs=y)


def guide(y, noise=0.5):
    loc = pyro.param("loc", torch.tensor(0.2))
    pyro.sample("m", dist.Normal(loc, 0.3))
    pyro.sample("w", dist.Normal(torch.tensor([0.1, -0.1]), 0.2).to_event(1))


def hierarchical(y):
    pyro.sample("shared", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("school", 3, dim=-2):
        effect = pyro.sample("effect", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("pupil", y.shape[1], dim=-1):
            pyro.sample("y", dist.Normal(effect[..., 0] + effect[..., 1], 1.0), obs=y)


def effects(y):
    pyro.sample("shared", dist.Normal(torch.ones(3), 0.1).to_event(1))
    with pyro.plate("school", 3, dim=-2):
        pyro.sample("effect", dist.Normal(torch.ones(2), 0.1).to_event(1))


@pytest.mark.parametrize("parallel", [False, True])
def test_every_group_is_what_the_programs_say(parallel):
    options = {"num_draws": 25, "num_predictive": 7, "parallel": parallel, "at_once": 10}
    kwargs = {"noise": 0.7}
    tree = from_pyro(model, guide, (Y,), kwargs, **options, constant_data={"age": [1, 2, 3, 4]}, dims={"age": ["item"]})
    posterior, stats = tree["posterior"], tree["sample_stats"]
    assert dict(posterior["w"].sizes) == {"chain": 1, "draw": 25, "w_dim_0": 2}
    assert dict(posterior["m"].sizes) == dict(posterior["total"].sizes) == {"chain": 1, "draw": 25}
    m, w = (torch.from_numpy(posterior[name].values) for name in ("m", "w"))
    np.testing.assert_allclose(posterior["total"], m + w.sum(-1), rtol=1e-6)

    loc = dist.Normal(torch.tensor(0.2), 0.3)
    np.testing.assert_allclose(stats["log_q_m"], loc.log_prob(m), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["log_p_m"], dist.Normal(0.0, 2.0).log_prob(m), rtol=1e-4)
    view = dist.Normal((m + w.sum(-1)).unsqueeze(-1), 0.7).log_prob(Y)
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "item")
    np.testing.assert_allclose(tree["log_likelihood"]["y"], view, rtol=1e-4)
    joint = stats["log_p_m"] + stats["log_p_w"] + tree["log_likelihood"]["y"].sum("item")
    np.testing.assert_allclose(stats["lp"], joint, rtol=1e-5)
    np.testing.assert_allclose(stats["lq"], stats["log_q_m"] + stats["log_q_w"], rtol=1e-5, atol=1e-5)

    assert dict(tree["posterior_predictive"]["y"].sizes) == {"chain": 1, "draw": 7, "item": 4}
    assert dict(tree["prior"]["w"].sizes) == {"chain": 1, "draw": 7, "w_dim_0": 2}
    assert set(tree["prior"].data_vars) == {"m", "w", "total"}
    np.testing.assert_allclose(
        tree["prior"]["total"], tree["prior"]["m"] + tree["prior"]["w"].sum("w_dim_0"), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)
    np.testing.assert_array_equal(tree["constant_data"]["age"], [1, 2, 3, 4])


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_have_the_predictive_moments(parallel):
    tree = from_pyro(model, guide, (Y,), num_draws=3000, num_predictive=3000, parallel=parallel)
    posterior, prior = tree["posterior_predictive"]["y"], tree["prior_predictive"]["y"]
    assert float(posterior.mean()) == pytest.approx(0.2, abs=0.05)
    assert float(posterior.var("draw").mean()) == pytest.approx(0.09 + 2 * 0.04 + 0.25, rel=0.1)
    assert float(prior.mean()) == pytest.approx(0.0, abs=0.2)
    assert float(prior.var("draw").mean()) == pytest.approx(4 + 2 + 0.25, rel=0.1)


@pytest.mark.parametrize("parallel", [False, True])
def test_nested_plates_name_the_dimensions(parallel):
    y = torch.arange(12.0).reshape(3, 4)
    coords = {"school": ["a", "b", "c"]}
    tree = from_pyro(
        hierarchical,
        effects,
        (y,),
        num_draws=20,
        num_predictive=5,
        parallel=parallel,
        coords=coords,
        dims={"effect": ["part"]},
    )
    assert tree["posterior"]["effect"].dims == ("chain", "draw", "school", "part")
    assert dict(tree["posterior"]["shared"].sizes) == {"chain": 1, "draw": 20, "shared_dim_0": 3}
    assert dict(tree["prior"]["shared"].sizes) == {"chain": 1, "draw": 5, "shared_dim_0": 3}
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "school", "pupil")
    assert tree["posterior"]["school"].values.tolist() == ["a", "b", "c"]
    effect = tree["posterior"]["effect"].values
    density = dist.Normal(torch.from_numpy(effect.sum(-1, keepdims=True)), 1.0).log_prob(y)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], density, rtol=1e-4)
    # ArviZ's own functions read it.
    assert len(arviz_stats.summary(tree)) == 6 + 3


def test_a_fit_by_svi_is_read_as_it_stands():
    pyro.clear_param_store()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(20):
        svi.step(Y)
    loc = pyro.param("loc").item()
    tree = from_pyro(model, guide, (Y,), num_draws=2000, num_predictive=0, prior=False, parallel=True)
    assert float(tree["posterior"]["m"].mean()) == pytest.approx(loc, abs=0.03)
    assert set(tree.children) == {"posterior", "sample_stats", "log_likelihood", "observed_data"}
    pyro.clear_param_store()


def test_scaled_sites_count_as_they_are_scaled_in_lp():
    def scaled(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=10.0), pyro.plate("item", 4):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    tree = from_pyro(scaled, lambda y: pyro.sample("m", dist.Normal(0.0, 0.1)), (Y,), num_draws=5, num_predictive=1)
    expected = tree["sample_stats"]["log_p_m"] + 10 * tree["log_likelihood"]["y"].sum("item")
    np.testing.assert_allclose(tree["sample_stats"]["lp"], expected, rtol=1e-5)


@pytest.mark.parametrize("auto", [AutoNormal, AutoDiagonalNormal])
@pytest.mark.parametrize("parallel", [False, True])
def test_the_densities_of_autoguides_are_in_lq(auto, parallel):
    def positive(y):
        rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
        with pyro.plate("item", len(y)):
            pyro.sample("y", dist.Normal(rate, 1.0), obs=y)
        pyro.factor("bonus", -0.5 * rate)

    pyro.clear_param_store()
    with rng.isolated(0):
        found = auto(positive)
        found(Y)
        elbo = -Trace_ELBO(num_particles=4000, vectorize_particles=False).loss(positive, found, Y)
    options = {"parallel": parallel and auto is AutoNormal, "num_predictive": 2, "prior": False}
    tree = from_pyro(positive, found, (Y,), num_draws=4000, **options)
    stats = tree["sample_stats"]
    difference = (stats["lp"] - stats["lq"]).values
    assert difference.mean() == pytest.approx(elbo, abs=6 * difference.std() / 4000**0.5)
    assert set(tree["posterior"].data_vars) == {"rate"}
    pyro.clear_param_store()


def test_masked_observations_add_nothing():
    def masked(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("item", 4):
            pyro.sample("y", dist.Normal(m, 1.0).mask(torch.tensor([True, False, True, True])), obs=y)

    tree = from_pyro(masked, lambda y: pyro.sample("m", dist.Normal(0.0, 0.1)), (Y,), num_draws=5, num_predictive=1)
    assert (tree["log_likelihood"]["y"].sel(item=1) == 0).all()
    assert (tree["log_likelihood"]["y"].sel(item=0) != 0).all()


def test_the_seed_decides_the_draws_and_nothing_else():
    before = torch.get_rng_state()
    first, second, other = (from_pyro(model, guide, (Y,), num_draws=4, num_predictive=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert (first["posterior"]["m"] == second["posterior"]["m"]).all()
    assert (first["posterior"]["m"] != other["posterior"]["m"]).all()


def test_what_cannot_be_read_says_why():
    with pytest.raises(InputError, match="num_draws is 0: give 1 or more"):
        from_pyro(model, guide, (Y,), num_draws=0)
    with pytest.raises(InputError, match="the guide lacks the model's site 'w'"):
        from_pyro(model, lambda y: pyro.sample("m", dist.Normal(0.0, 1.0)), (Y,))
    with pytest.raises(InputError, match="dims names 2 event dimensions of 'w', which has 1"):
        from_pyro(model, guide, (Y,), dims={"w": ["a", "b"]})

    def narrow(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("item", 4):
            pyro.sample("y", dist.Normal(m.reshape(-1, 1, 1), 1.0), obs=y)

    with pytest.raises(InputError, match="does not broadcast over draws: use parallel=False"):
        from_pyro(narrow, lambda y: pyro.sample("m", dist.Normal(0.0, 1.0)), (Y,), num_draws=5, parallel=True)

    def subsampled(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("item", 40, subsample_size=4):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    with pytest.raises(InputError, match="the plate 'item' takes 4 of 40 anew in every run"):
        from_pyro(subsampled, lambda y: pyro.sample("m", dist.Normal(0.0, 1.0)), (Y,), num_draws=5)

    def growing(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.deterministic("grown", torch.zeros(int(m.abs() * 100) + 1))
        pyro.sample("y", dist.Normal(m, 1.0).expand([4]).to_event(1), obs=y)

    with pytest.raises(InputError, match="draws of 'grown' differ in shape"):
        from_pyro(growing, lambda y: pyro.sample("m", dist.Normal(0.0, 1.0)), (Y,), num_draws=5)
