"""The relevance story: style scales counted once a data set, their posterior against a grid, and what it refuses."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.nn import PyroModule
from scipy import stats
from torch import nn

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Relevance, SimVAE
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D, M = 5, 4, 60


def story(latent_dim=D, **arguments):
    return Relevance(Normal(MLP([4]).decoder((P,), latent_dim)), latent_dim, **({"num_items": M} | arguments))


class Guide(PyroModule):
    """q(s) q(z | x) p(c | z, s), with q(s) LogNormal and the content exact for the style scales that were drawn."""

    def __init__(self, model, encoder):
        super().__init__()
        self.encoder = encoder
        self.num_items, self.content_scale = model.num_items, model.content_scale
        self.loc = nn.Parameter(torch.full((D,), math.log(0.4)))
        self.log_scale = nn.Parameter(torch.full((D,), -1.0))

    def forward(self, x, z=None):
        with poutine.scale(scale=len(x) / self.num_items):
            scales = pyro.sample("style_scale", dist.LogNormal(self.loc, self.log_scale.exp()).to_event(1))
        with pyro.plate("groups", x.shape[0], dim=-2):
            if z is None:
                with pyro.plate("views", x.shape[1], dim=-1):
                    z = pyro.sample("z", dist.Normal(*self.encoder(x)).to_event(1))
            pyro.sample("content", conjugate.content_posterior(z, scales, self.content_scale))


def pair(**arguments):
    with isolated(0):
        model = story(**arguments)
        return LedgerELBO(model, Guide(model, MLP([4]).encoder((P,), D))).double()


def views(num_groups, num_views):
    with isolated(2):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


def gradients(value, elbo):
    return torch.autograd.grad(value, list(elbo.parameters()))


@pytest.mark.parametrize("num_views", [1, 3])
def test_ledger_is_pyros_elbo_and_the_collapsed_one(num_views):
    elbo, x = pair(), views(6, num_views)
    with isolated(1):
        ledger = elbo(x)
    with isolated(1), local_params(elbo):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(gradients(ledger.objective, elbo), gradients(reference, elbo))
    with isolated(1), local_params(elbo):
        nodes = poutine.trace(elbo.guide).get_trace(x).nodes
    terms, scales, z = ledger.terms, nodes["style_scale"]["value"], nodes["z"]["value"]
    prior = stats.lognorm(s=1.0, scale=0.4).logpdf(scales.detach()).sum()
    assert terms["log_p/style_scale"].item() == pytest.approx(6 / M * prior, rel=1e-6)
    latents = terms["log_p/content"] + terms["log_p/z"] - terms["log_q/content"]
    torch.testing.assert_close(latents, conjugate.group_evidence(z, scales, 1.0).sum().detach())


def test_batches_of_a_data_set_count_the_style_scales_once():
    elbo = pair()
    counted = 0.0
    for x in views(M, 2).split(25):  # the last batch is smaller
        with isolated(1):
            counted += elbo(x).terms["log_p/style_scale"]
    with isolated(1):
        once = elbo(views(M, 2)).terms["log_p/style_scale"]
    torch.testing.assert_close(counted, once)


def log_joint(model, values, names):
    """log p of the sites named, of each group, `(N,)`."""
    with local_params(model):
        trace = poutine.trace(poutine.condition(model, values)).get_trace(values["x"])
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"].sum(-1) for name in names)


GROUPED = ("content", "z", "x")


def prior_draw(model):
    with isolated(3), local_params(model):
        nodes = poutine.trace(model).get_trace(num_groups=6, num_views=3).nodes
    return {name: nodes[name]["value"] for name in ("style_scale", *GROUPED)}


def test_given_its_style_scales_the_story_is_simvae():
    model = pair().model
    values = prior_draw(model)
    simvae = SimVAE(model.likelihood, D, learn_style_scale="dimension").double()
    simvae.style_scale = values.pop("style_scale")
    ours = log_joint(model, values | {"style_scale": simvae.style_scale.detach()}, GROUPED)
    torch.testing.assert_close(ours, log_joint(simvae, values, GROUPED))


def test_order_of_groups_and_of_views_does_not_matter():
    model = pair().model
    values = prior_draw(model)
    with isolated(4):
        groups, order = torch.randperm(6), torch.randperm(3)
    expected = log_joint(model, values, GROUPED)
    permuted = values | {name: values[name][groups] for name in GROUPED}
    torch.testing.assert_close(log_joint(model, permuted, GROUPED), expected[groups])
    shuffled = values | {name: values[name][:, order] for name in ("z", "x")}
    torch.testing.assert_close(log_joint(model, shuffled, GROUPED), expected)


def test_posterior_tells_content_from_style_as_surely_as_the_data_do():
    elbo, x, spreads = pair(), views(M, 3), torch.tensor([0.05, 0.2, 1.0, 3.0], dtype=torch.float64)
    with isolated(0):
        content, noise = torch.randn(M, 1, D, dtype=torch.float64), torch.randn(M, 3, D, dtype=torch.float64)
    z = content + spreads * noise  # given, so that the posterior of s is known
    loss = Trace_ELBO(num_particles=16, vectorize_particles=True, max_plate_nesting=2)
    given = poutine.condition(elbo.model, {"z": z})
    parameters = [elbo.guide.loc, elbo.guide.log_scale]
    optimizer = torch.optim.Adam(parameters, 0.1, betas=(0.9, 0.9))  # the first gradients are huge
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    with isolated(1), local_params(elbo):
        for _ in range(300):
            optimizer.zero_grad()
            loss.differentiable_loss(given, lambda x: elbo.guide(x, z), x).backward(inputs=parameters)
            optimizer.step()
            schedule.step()
    found = dist.Normal(elbo.guide.loc.detach(), elbo.guide.log_scale.detach().exp())  # of log s
    grid = torch.linspace(-5, 3, 2001, dtype=torch.float64)
    covariance = (2 * grid).exp()[:, None, None] * torch.eye(3, dtype=torch.float64) + 1.0
    views_of_group = dist.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
    for d in range(D):
        log_likelihood = views_of_group.log_prob(z[..., d].unsqueeze(1)).sum(0)
        posterior = (log_likelihood + dist.Normal(math.log(0.4), 1.0).log_prob(grid)).softmax(0)
        loc = (posterior * grid).sum()
        scale = (posterior * (grid - loc).square()).sum().sqrt().item()
        assert found.loc[d].item() == pytest.approx(loc.item(), abs=scale / 3)
        assert found.scale[d].item() == pytest.approx(scale, rel=0.2)
        assert abs(loc.item() - spreads[d].log().item()) < 3 * scale  # as surely as it says


def test_prior_draws_have_one_scale_a_dimension():
    check_story(story(), D, 2)
    draws = Predictive(story(), num_samples=2)(num_groups=6, num_views=3)
    shapes = {"style_scale": (2, 1, 1, D), "content": (2, 6, 1, D), "z": (2, 6, 3, D), "x": (2, 6, 3, P)}
    assert {name: draws[name].shape for name in shapes} == shapes
    values = prior_draw(story(latent_dim=20_000, style_scale=0.3, spread=0.5))
    assert values["style_scale"].median().item() == pytest.approx(0.3, rel=0.02)
    assert values["style_scale"].log().std().item() == pytest.approx(0.5, rel=0.02)
    style = (values["z"] - values["content"]) / values["style_scale"]
    assert style.std().item() == pytest.approx(1, rel=0.01)


def test_trains_in_plain_pyro():
    elbo, x = pair(), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    with isolated(1):
        losses = [svi.step(x) for _ in range(60)]
    pyro.clear_param_store()
    assert sum(losses[-10:]) < sum(losses[:10])


def test_fits_digits(fit_images):
    run = fit_images(data="digits", training={"epochs": 1, "num_groups": 64}, model="pyro_simvae.models.Relevance")
    assert "log_q/style_scale" in (run / "metrics.csv").read_text()


@pytest.mark.parametrize("num_items", [0, -3, 1.5])
def test_a_data_set_of_nothing_is_refused(num_items):
    with pytest.raises(InputError, match=f"num_items is {num_items}: give a whole number, 1 or more"):
        story(num_items=num_items)


@pytest.mark.parametrize("name", ["content_scale", "style_scale", "spread"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_scale_that_is_not_positive_and_finite_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a positive finite number"):
        story(**{name: value})
