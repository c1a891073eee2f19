"""Factors for extra latent sites: against the exact evidence, in every plate, on every support; what is refused."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.nn import PyroModule
from torch.distributions import MultivariateNormal

from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.guides import Flow, FullCovariance, MeanField, SemiAmortized, SphericalMeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Multimodal, Relevance, SimVAE, Spherical
from pyro_simvae.networks import MLP, Encoders, Linear

P, D, NOISE = 3, 2, 0.5


class Columns(PyroModule):
    """Three numbers a view: one noisy reading of what all, the group, and the view have. z is not looked at."""

    def __init__(self, spread=1.0):
        super().__init__()
        self.spread = spread

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        everywhere = pyro.sample("everywhere", dist.Normal(2.0, self.spread))
        with pyro.plate("groups", num_groups, dim=-2):
            rotation = pyro.sample("rotation", dist.Normal(0.0, 1.0))
            with pyro.plate("views", num_views, dim=-1):
                brightness = pyro.sample("brightness", dist.Normal(0.0, 1.0))
                pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
                loc = torch.stack(torch.broadcast_tensors(everywhere, rotation, brightness), -1)
                return pyro.sample("x", dist.Normal(loc, NOISE).to_event(1), obs=x)


def columns():
    with isolated(0):
        model = Columns()
        return LedgerELBO(model, MeanField(model, Linear().encoder((P,), D))).double()


def set_factor(factor, column, loc, gain, scale):
    """q = Normal(loc + gain · reading, scale²), in the coordinates of the factor."""
    raw_scale = (scale / factor.spread - 1e-5).expm1().log()
    if factor.head is None:
        factor.free[:] = torch.stack([(loc - factor.median) / factor.spread, raw_scale])
        return
    factor.head.weight.zero_()
    factor.head.weight[0, column] = gain / factor.spread
    factor.head.bias[:] = torch.stack([(loc - factor.median) / factor.spread, raw_scale])


def test_conjugate_sites_of_all_plates_reach_the_evidence_whatever_is_drawn():
    elbo = columns()
    n, j, precision = 4, 3, NOISE**-2
    with isolated(1):
        x = torch.randn(n, j, P, dtype=torch.float64)
    with torch.no_grad():
        elbo.guide.encoder.head.weight.zero_()
        elbo.guide.encoder.head.bias[:D] = 0
        elbo.guide.encoder.head.bias[D:] = math.log(math.expm1(1 - 1e-5))
        for column, factor in enumerate(elbo.guide.extra.factors):
            prior_loc, readings = [(2.0, n * j), (0.0, j), (0.0, 1)][column]
            variance = 1 / (1 + readings * precision)
            loc, gain = torch.tensor(variance * prior_loc), variance * readings * precision
            loc = loc + gain * x[..., 0].mean() if factor.head is None else loc
            set_factor(factor, column, loc, gain, torch.tensor(variance, dtype=torch.float64).sqrt())
    names = [factor.name for factor in elbo.guide.extra.factors]
    assert names == ["everywhere", "rotation", "brightness"]
    ones, eye = torch.ones(n * j, n * j, dtype=torch.float64), torch.eye(n * j, dtype=torch.float64)
    groups = torch.kron(torch.eye(n, dtype=torch.float64), torch.ones(j, j, dtype=torch.float64))
    covariances, locs = (ones, groups, eye), (2.0, 0.0, 0.0)
    evidence = sum(
        MultivariateNormal(torch.full((n * j,), loc, dtype=torch.float64), covariance + NOISE**2 * eye).log_prob(column)
        for loc, covariance, column in zip(locs, covariances, x.flatten(0, 1).T, strict=True)
    )
    for _ in range(3):
        torch.testing.assert_close(elbo(x).objective, evidence, rtol=1e-5, atol=1e-5)
        with pyro.validation_enabled(True), local_params(elbo):
            loss = Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
        torch.testing.assert_close(-loss, evidence, rtol=1e-5, atol=1e-5)


class Zoo(PyroModule):
    """SimVAE with a site of every kind of support and event."""

    def __init__(self, likelihood, latent_dim):
        super().__init__()
        self.likelihood = likelihood
        self.latent_dim = latent_dim

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with poutine.scale(scale=num_groups / 60):
            size = pyro.sample("size", dist.LogNormal(torch.zeros(2, 3), 1.0).to_event(2))
        factor = pyro.sample("factor", dist.LKJCholesky(3, torch.tensor(1.0)))
        fixed = pyro.sample("fixed", dist.Delta(torch.tensor(1.0)))
        with pyro.plate("groups", num_groups, dim=-2):
            kind = pyro.sample("kind", dist.Categorical(torch.ones(4)), infer={"enumerate": "parallel"})
            angle = pyro.sample("angle", dist.Uniform(-math.pi, math.pi))
            shares = pyro.sample("shares", dist.Dirichlet(torch.ones(4)))
            content = pyro.sample("content", Gaussian(torch.zeros(self.latent_dim), 1.0))
            with pyro.plate("views", num_views, dim=-1):
                ink = pyro.sample("ink", dist.Beta(torch.full((2,), 2.0), 3.0).to_event(1))
                noise = pyro.sample("noise", dist.HalfNormal(1.0))
                loc = content + kind.unsqueeze(-1) + fixed + angle.unsqueeze(-1) + shares[..., :1] + ink.sum(-1, True)
                scale = 0.5 + noise.unsqueeze(-1) + size.sum() + factor[..., 1, 0].abs()
                z = pyro.sample("z", Gaussian(loc, scale))
                return pyro.sample("x", self.likelihood(z), obs=x)


SHAPES = {
    "size": (2, 3),
    "factor": (3, 3),
    "angle": (6, 1),
    "shares": (6, 1, 4),
    "ink": (6, 2, 2),
    "noise": (6, 2),
    "z": (6, 2, D),
    "content": (6, 1, D),
}


def zoo(guide):
    with isolated(0):
        model = Zoo(Normal(MLP([4]).decoder((P,), D), scale=0.5), D)
        return LedgerELBO(model, guide(model, MLP([4]).encoder((P,), D)))


def views():
    with isolated(1):
        return torch.randn(6, 2, P)


@pytest.mark.parametrize("guide", [MeanField, FullCovariance, Flow, SemiAmortized])
def test_every_support_in_every_guide(guide):
    elbo, x = zoo(guide), views()
    with isolated(2):
        trace = poutine.trace(elbo.guide).get_trace(x)
    values = {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes}
    assert {name: tuple(value.shape) for name, value in values.items() if name in SHAPES} == SHAPES
    assert set(values) - {"groups", "views"} == set(SHAPES)
    model = poutine.trace(elbo.model).get_trace(num_groups=6).nodes
    for name, value in values.items():
        if name in SHAPES:
            assert model[name]["fn"].support.check(value).all()
            frames = [[frame.name for frame in node[name]["cond_indep_stack"]] for node in (model, trace.nodes)]
            assert frames[0] == frames[1]
            assert float(model[name]["scale"]) == pytest.approx(float(trace.nodes[name]["scale"]))
    assert float(trace.nodes["size"]["scale"]) == pytest.approx(6 / 60)
    parameters = [*elbo.guide.encoder.parameters(), *elbo.guide.extra.parameters(), *elbo.model.parameters()]
    gradients = torch.autograd.grad(elbo(x).objective, parameters)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


def test_factors_train_and_predict_in_plain_pyro():
    with isolated(0):
        model = Relevance(Normal(MLP([4]).decoder((P,), D), scale=0.5), D, num_items=60)
        guide = MeanField(model, MLP([4]).encoder((P,), D))
    pyro.clear_param_store()
    with isolated(2), pyro.validation_enabled(True):
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
        losses = [svi.step(views()) for _ in range(30)]
        draws = Predictive(guide, num_samples=4)(views())
    pyro.clear_param_store()
    assert sum(losses[-5:]) < sum(losses[:5])
    assert draws["style_scale"].shape == (4, 1, 1, D)
    assert (draws["style_scale"] > 0).all()


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_factors_start_near_the_prior(spread):
    model = Columns(spread)
    (factor,) = [f for f in MeanField(model, Linear().encoder((P,), D)).extra.factors if f.name == "everywhere"]
    q = factor(torch.zeros(1, 1, P))
    assert abs(q.mean.item() - 2) < 0.25 * spread
    assert q.stddev.item() == pytest.approx(math.log(2) * spread, rel=0.15)


def test_factor_is_the_same_function_after_loading():
    elbo, other = zoo(MeanField), zoo(MeanField)
    with torch.no_grad():
        for parameter in other.guide.parameters():
            parameter += 1
    other.guide.load_state_dict(elbo.guide.state_dict())
    draws = []
    for guide in (elbo.guide, other.guide):
        with isolated(3):
            draws.append(poutine.trace(guide).get_trace(views()).nodes["ink"]["value"])
    assert torch.equal(*draws)


def test_making_a_guide_with_factors_depends_on_the_seed_and_spherical_guides_have_them_too():
    class Brighter(Spherical):
        def forward(self, x=None, num_groups=1, num_views=2):
            if x is not None:
                num_groups, num_views = x.shape[:2]
            with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
                pyro.sample("brightness", dist.Normal(0.0, 1.0))
            with poutine.block(hide=["groups", "views"]):
                return super().forward(x, num_groups, num_views)

    model = Brighter(Normal(MLP([4]).decoder((P,), D)), D)
    guides = []
    for _ in range(2):
        with isolated(0):
            guides.append(SphericalMeanField(model, MLP([4]).encoder((P,), D)))
    assert torch.equal(guides[0].extra.factors[0].median, guides[1].extra.factors[0].median)
    nodes = poutine.trace(guides[0]).get_trace(views()).nodes
    assert nodes["brightness"]["value"].shape == (6, 2)
    assert nodes["content"]["value"].norm(dim=-1).allclose(torch.ones(6, 1))


def test_stories_without_extra_sites_have_no_factors():
    model = SimVAE(Normal(MLP([4]).decoder((P,), D)), D)
    guide = MeanField(model, MLP([4]).encoder((P,), D))
    assert guide.extra is None
    assert {name.partition(".")[0] for name in guide.state_dict()} == {"encoder"}


def with_site(site):
    """A story with one site of the test's making."""

    class Edited(PyroModule):
        def forward(self, x=None, num_groups=1, num_views=2):
            with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(torch.zeros(P), 1.0).to_event(1), obs=x)
            site(num_groups, num_views)

    return Edited()


def in_batch_plate(num_groups, num_views):
    with pyro.plate("pixels", 4, dim=-3):
        pyro.sample("edge", dist.Normal(0.0, 1.0))


def in_varying_support(num_groups, num_views):
    pyro.sample("edge", dist.Uniform(torch.zeros(2), torch.tensor([1.0, 2.0])).to_event(1))


def discrete(num_groups, num_views):
    pyro.sample("edge", dist.Bernoulli(0.5))


def without_event(num_groups, num_views):
    pyro.sample("edge", dist.Normal(torch.zeros(3), 1.0))


def direction(num_groups, num_views):
    pyro.sample("edge", dist.ProjectedNormal(torch.ones(3)))


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (discrete, r"'edge' is discrete.*mark it infer=\{\"enumerate\""),
        (in_batch_plate, r"'edge' has batch shape .* in the plates pixels: write it outside of all plates"),
        (without_event, r"'edge' has batch shape \(3,\) .* \.to_event"),
        (in_varying_support, "support of the story's latent site 'edge' is not the same everywhere, from 1 to 2"),
        (direction, "'edge', of a ProjectedNormal, has no map"),
    ],
)
def test_sites_without_a_factor_are_refused(site, message):
    with pytest.raises(InputError, match=message):
        MeanField(with_site(site), Linear().encoder((P,), D))


def test_an_encoder_a_modality_is_refused():
    class Brighter(Multimodal):
        def forward(self, x=None, num_groups=1, num_views=None):
            pyro.sample("brightness", dist.Normal(0.0, 1.0))
            return super().forward(x, num_groups, num_views)

    model = Brighter({name: Normal(MLP([4]).decoder((P,), D)) for name in "ab"}, D)
    encoders = Encoders({name: MLP([4]).encoder((P,), D) for name in "ab"})
    with pytest.raises(InputError, match="'brightness' has a factor by itself for one encoder"):
        MeanField(model, encoders)
