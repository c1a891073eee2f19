"""Planted faults, each in a story file of its own, are found by name; stories without any pass."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn

from pyro_simvae.components import KNOWN
from pyro_simvae.editing.check import check, inspect_story
from pyro_simvae.editing.likelihood import log_mass
from pyro_simvae.editing.report import Finding, Report, unique
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import rng
from pyro_simvae.likelihoods import Likelihood, Normal
from pyro_simvae.models import Mixture, SimVAE
from pyro_simvae.networks import MLP

SMALL = {"class_path": "mlp", "init_args": {"hidden": [8]}}
SUITS = {
    "linear": {"network": "linear", "likelihood": "normal"},
    "spherical": {"guide": "spherical"},
    "multimodal": {"data": "paired_digits"},
}

STORY = """
import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from pyro_simvae.distributions import Decoded


class HeavyTails(PyroModule):
    def __init__(self, likelihood, latent_dim, degrees_of_freedom: float = 4.0, style_scale: float = 0.4):
        super().__init__()
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.degrees_of_freedom = degrees_of_freedom
        self.style_scale = style_scale
        self.content_scale = PyroParam(torch.tensor(1.0), constraints.positive)

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2):
            origin = self.content_scale.new_zeros(self.latent_dim)
            content = pyro.sample("content", dist.Normal(origin, self.content_scale).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.StudentT(self.degrees_of_freedom, content, self.style_scale).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)
"""
INDENT = "            "
SCALE = "self.content_scale = PyroParam(torch.tensor(1.0), constraints.positive)"
PLATE = 'with pyro.plate("groups", num_groups, dim=-2):'
ORIGIN = "origin ="
CONTENT = "dist.Normal(origin, self.content_scale).to_event(1)"
VIEWS = 'with pyro.plate("views", num_views, dim=-1):'
LATENT = "dist.StudentT(self.degrees_of_freedom, content, self.style_scale).to_event(1)"
IMPROPER = "dist.ImproperUniform(constraints.real_vector, (), (self.latent_dim,))"
PLAIN = "dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1)"
PIXELS = "self.likelihood.pixels(self.likelihood.decoder(z))"
VIEW = 'pyro.sample("x", self.likelihood(z), obs=x)'
RETURN = f"return {VIEW}"

# kind, site, and twos of a text in the story and what takes its place
FAULTS = [
    ("missing_site", "z", '"z"', '"latent"'),
    ("missing_site", "x", '"x"', '"view"'),
    ("misspelt_content", "contnet", '"content"', '"contnet"'),
    ("misspelt_content", "Content", '"content"', '"Content"'),
    ("plate_missing", "z", VIEWS, "if True:"),
    ("plate_missing", "content", PLATE, "if True:"),
    ("plate_name", "content", '"groups"', '"group"'),
    ("plate_dim", "content", "num_groups, dim=-2):", "num_groups, dim=-3):"),
    ("plate_dim", "content", "num_groups, dim=-2)", "num_groups)"),
    ("plate_size", "content", 'plate("groups", num_groups', 'plate("groups", 5'),
    ("plate_size", "z", 'plate("views", num_views', 'plate("views", 2'),
    ("plate_size", "content", "if x is not None:", "if False:"),
    ("content_per_view", "content", PLATE, f"{PLATE[:-1]}, pyro.plate('views', num_views, dim=-1):", VIEWS, "if True:"),
    ("event_shape", "content", CONTENT, CONTENT.removesuffix(".to_event(1)")),
    ("event_shape", "z", LATENT, LATENT.removesuffix(".to_event(1)")),
    ("event_shape", "z", LATENT, LATENT.replace("content,", "content[..., :4],")),
    ("event_shape", "x", "self.likelihood(z)", PIXELS),
    ("event_shape", "x", "self.likelihood(z)", f"{PIXELS}.to_event(1)"),
    ("event_shape", "x", "self.likelihood(z)", "dist.Normal(z, 1.0).to_event(1)"),
    ("event_shape", "scale", PLATE, f'pyro.sample("scale", dist.LogNormal(torch.zeros(3), 1.0))\n        {PLATE}'),
    ("broadcast", "z", "self.degrees_of_freedom, content,", "self.degrees_of_freedom, content.squeeze(-2),"),
    ("broadcast", "x", "obs=x", "obs=None if x is None else x.unsqueeze(0).expand(3, *x.shape)"),
    ("unobserved", "x", "obs=x", ""),
    ("scored_twice", "again", RETURN, f'pyro.sample("again", self.likelihood(z), obs=x)\n{INDENT}    {RETURN}'),
    ("non_finite", "z", "content, self.style_scale)", "content / 0 * 0, self.style_scale, validate_args=False)"),
    ("non_finite", "x", "self.likelihood(z)", "dist.Beta(1 + z.square().sum(-1)[..., *3 * [None]], 2.0)"
     ".expand((num_groups, num_views, 1, 8, 8)).to_event(3)"),
    ("support", "x", "self.likelihood(z)", "dist.Pareto(0.1, 1 + z.square().sum(-1)[..., *3 * [None]])"
     ".expand((num_groups, num_views, 1, 8, 8)).to_event(3)"),
    ("no_gradient", "model.idle", SCALE, f"{SCALE}\n        self.idle = nn.Parameter(torch.zeros(3))"),
    ("no_gradient", "model.likelihood.decoder.layers.0.bias", "self.likelihood(z)",
     f"{PIXELS.replace('(z))', '(z).detach() + z.mean(-1)[..., *3 * [None]])')}.to_event(3)"),
    ("unregistered", "content_scale", SCALE, "self.content_scale = torch.tensor(1.0, requires_grad=True)"),
    ("unregistered", "layers", SCALE, f"{SCALE}\n        self.layers = [nn.Linear(2, 2)]"),
    ("global_param", "shift", ORIGIN, f'shift = pyro.param("shift", torch.zeros(()))\n{INDENT}{ORIGIN} shift +'),
    ("discrete", "k", ORIGIN, f'k = pyro.sample("k", dist.Bernoulli(0.5))[..., None]\n{INDENT}{ORIGIN} k +'),
    ("global_scale", "shift", PLATE, f'shift = pyro.sample("shift", dist.Normal(0.0, 1.0))\n        {PLATE}'),
    ("error", "", RETURN, f'pyro.sample("z", dist.Normal(z, 1.0).to_event(1))\n{INDENT}    {RETURN}'),
    ("seed", "", PLATE, f"torch.manual_seed(0)\n        {PLATE}"),
    ("seed", "", SCALE, f"{SCALE}\n        torch.manual_seed(0)"),
    ("random", "content", ORIGIN, f"{ORIGIN} np.random.default_rng().normal() +"),
    ("random", "content", ORIGIN, f"self.degrees_of_freedom += 1\n{INDENT}{ORIGIN} self.degrees_of_freedom +"),
    ("unused", "z", "self.likelihood(z)", "self.likelihood(content.expand(num_groups, num_views, -1))"),
    ("across_groups", "x", "self.likelihood(z)", "self.likelihood(z - z.mean(0))"),
    ("across_groups", "z", "self.degrees_of_freedom, content,", "self.degrees_of_freedom, content.mean(0),"),
    ("weighted", "x", RETURN, f"with poutine.scale(scale=100.0):\n{INDENT}        {RETURN}"),
    ("not_normalized", "x", VIEW, 'pyro.factor("x", -self.likelihood.decoder(z).sum((-1, -2, -3)))'),
    ("constructor", "", "latent_dim, degrees", "dim, degrees"),
    ("constructor", "", "self.latent_dim = latent_dim", "self.latent_dim = latent_dims"),
    ("forward", "", "num_groups=1, num_views=2", "num_groups=1, views=2"),
    ("error", "", "origin = self.content_scale.new_zeros(self.latent_dim)", "origin = self.origins"),
]  # fmt: skip
REMARKS = [
    ("improper", "content", CONTENT, IMPROPER, SCALE, "self.content_scale = nn.Buffer(torch.ones(()))"),
    ("dtype", "content", CONTENT, PLAIN, SCALE, "self.content_scale = nn.Buffer(torch.ones(()))"),
    ("across_views", "x", "self.likelihood(z)", "self.likelihood(z.mean(1, keepdim=True).expand_as(z))"),
    ("buffer", "origin", SCALE, f"{SCALE}\n        self.origin = torch.zeros(latent_dim)"),
    ("factor", "penalty", RETURN, f'pyro.factor("penalty", -content.square().sum(-1))\n{INDENT}    {RETURN}'),
    ("prior_range", "x", "self.likelihood(z)", "dist.Normal(self.likelihood.decoder(1e3 * z), 1e3).to_event(3)"),
    ("no_gradient", "model.idle", SCALE, f"{SCALE}\n        self.idle = nn.Parameter(torch.zeros(()))",
     ORIGIN, f"{ORIGIN} 0 * self.idle +"),
]  # fmt: skip
CLEAN = [
    [],
    [LATENT, LATENT.replace("content,", "torch.cat([content, content.square()], -1)[..., :10],")],
    ["self.likelihood(z)", "dist.Laplace(self.likelihood.decoder(z), 0.2).to_event(3)"],
    ["self.likelihood(z)", "dist.Normal(self.likelihood.decoder(z), 1e-3).to_event(3)"],
    ["self.likelihood(z)", "dist.Normal(1e3 * self.likelihood.decoder(z), 0.1).to_event(3)"],
    [RETURN, f'pyro.deterministic("style", z - content, event_dim=1)\n{INDENT}    {RETURN}'],
    ["x=None, num_groups", "x=None, labels=None, num_groups"],
]  # fmt: skip


def edited(tmp_path, *changes: str) -> str:
    text = STORY
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "my_story.py"
    path.write_text(text)
    return str(path)


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.kind, finding.site) for finding in report.findings]


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: "-".join(case[:2]) or "nothing")
def test_a_planted_fault_is_found_with_its_mend(tmp_path, case, capsys):
    kind, site, *changes = case
    report = check(edited(tmp_path, *changes), network=SMALL)
    (finding,) = (f for f in report.faults if (f.kind, f.site) == (kind, site))
    assert finding.message
    assert finding.mend
    assert str(finding) in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("case", REMARKS, ids=lambda case: "-".join(case[:2]) or "nothing")
def test_what_is_worth_knowing_is_a_remark(tmp_path, case):
    kind, site, *changes = case
    report = check(edited(tmp_path, *changes), network=SMALL)
    assert (kind, site) in found(report)
    assert not report.faults


@pytest.mark.parametrize("changes", CLEAN, ids=lambda case: "-".join(case[:2]) or "nothing")
def test_a_story_without_a_mistake_passes(tmp_path, changes, capsys):
    report = check(edited(tmp_path, *changes), network=SMALL)
    assert not report.faults
    assert changes or (not report.findings and "nothing found" in capsys.readouterr().out)


@pytest.mark.parametrize("name", KNOWN["model"])
def test_every_known_story_passes(name):
    assert not check(name, **{"network": SMALL} | SUITS.get(name, {})).faults


@pytest.mark.parametrize("network", ["conv", "resnet18"])
def test_networks_with_batch_statistics_are_no_mistake(network):
    assert not check("simvae", network=network).findings


# -- the guide --------------------------------------------------------------------------------------------------

N, J, D, EVENT = 5, 3, 4, (1, 2, 3)


class Guide(PyroModule):
    """A right guide of SimVAE, whose parts are replaced below."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def latent(self, x):
        return dist.Normal(*self.encoder(x)).to_event(1)

    def content(self, z):
        return dist.Normal(z.mean(-2, keepdim=True), 0.3).to_event(1)

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2):
            with pyro.plate("views", x.shape[1], dim=-1):
                z = pyro.sample("z", self.latent(x))
            pyro.sample("content", self.content(z))


class ExtraSite(Guide):
    def content(self, z):
        pyro.sample("brightness", dist.Normal(0.0, 1.0))
        return super().content(z)


class NoContent(Guide):
    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            pyro.sample("z", self.latent(x))


class ContentInViews(Guide):
    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            z = pyro.sample("z", self.latent(x))
            pyro.sample("content", self.content(z))


class Score(dist.Normal):
    has_rsample = False


class NotReparametrized(Guide):
    def content(self, z):
        return Score(z.mean(-2, keepdim=True), 0.3).to_event(1)


class Scaled(Guide):
    def forward(self, x):
        with poutine.scale(scale=0.5):
            super().forward(x)


class Undeclared(Guide):
    def content(self, z):
        return dist.Normal(z.mean(-2, keepdim=True), 0.3)


class Broken(Guide):
    def content(self, z):
        return self.heads(z)


class NotFinite(Guide):
    def content(self, z):
        return dist.Normal(z.mean(-2, keepdim=True), math.inf).to_event(1)


class Idle(Guide):
    def __init__(self, encoder):
        super().__init__(encoder)
        self.idle = nn.Linear(2, 2)


class Positive(SimVAE):
    def latent(self, content):
        return dist.LogNormal(content, self.style_scale).to_event(1)


def parts(cls=SimVAE, likelihood=Normal, **arguments):
    """A story, the encoder of its guide, and views."""
    with rng.isolated(1):
        network = MLP([6])
        model = cls(likelihood(network.decoder(EVENT, D)), D, **arguments)
        return model, network.encoder(EVENT, D), torch.rand(N, J, *EVENT)


@pytest.mark.parametrize(
    ("cls", "kind", "site"),
    [
        (ExtraSite, "extra_in_guide", "brightness"),
        (NoContent, "missing_in_guide", "content"),
        (ContentInViews, "guide_shape", "content"),
        (NotReparametrized, "no_rsample", "content"),
        (Scaled, "guide_scale", "z"),
        (Broken, "guide", ""),
        (Undeclared, "guide_shape", "content"),
        (NotFinite, "non_finite", "content"),
        (Idle, "no_gradient", "guide.idle.weight"),
    ],
)
def test_a_fault_of_the_guide_is_found(cls, kind, site):
    model, encoder, x = parts()
    assert (kind, site) in found(inspect_story(model, cls(encoder), x, D))
    assert not inspect_story(model, Guide(encoder), x, D).findings


def test_a_guide_off_the_support_is_found():
    model, encoder, x = parts(Positive)
    assert ("guide_support", "z") in found(inspect_story(model, Guide(encoder), x, D))


@pytest.mark.parametrize("guide", ["full_covariance", "flow", "semi_amortized", "consistent"])
def test_the_guides_of_simvae_pass(guide):
    assert not check("simvae", guide=guide, network=SMALL).findings


def test_a_guide_that_cannot_be_made_is_a_fault():
    (finding,) = check("spherical", network=SMALL).faults
    assert finding.kind == "guide"
    assert finding.mend == "use --guide spherical"


def test_a_likelihood_of_other_data_is_found():
    (finding,) = check("simvae", network=SMALL, likelihood="bernoulli").faults
    assert (finding.kind, finding.site) == ("support", "x")
    assert finding.mend == "use views with a threshold, or --likelihood continuous_bernoulli"


def test_a_discrete_site_of_each_view_cannot_be_summed_out():
    class PerView(Mixture):
        def latent(self, content):
            k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            return super().latent(content + k[..., None])

    model, encoder, x = parts(PerView)
    report = inspect_story(model, MeanField(model, encoder), x, D)
    assert [finding.kind for finding in report.faults] == ["elbo"]
    assert {site.name: site.kind for site in report.sites} == {
        "cluster": "enumerated", "k": "enumerated", "z": "latent", "x": "observed"
    }  # fmt: skip


def test_a_latent_on_which_nothing_depends_is_a_remark():
    class WithExtra(SimVAE):
        def latent(self, content):
            pyro.sample("extra", dist.Normal(content, 1.0).to_event(1))
            return super().latent(content)

    model, _, x = parts(WithExtra)
    assert found(inspect_story(model, None, x, D)) == [("unused", "extra")]


def test_flat_content_is_a_remark_and_one_view_of_it_a_fault():
    model, encoder, x = parts(content_scale=math.inf)
    assert found(inspect_story(model, MeanField(model, encoder), x, D)) == [("improper", "content")]
    faults = inspect_story(model, None, x[:, :1], D).faults
    assert {finding.kind for finding in faults} == {"error"}
    assert "give a finite content_scale" in faults[0].mend


def test_inspecting_leaves_story_guide_and_generators_as_they_were():
    model, encoder, x = parts()
    guide = MeanField(model, encoder)
    model.likelihood.eval()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    state = torch.get_rng_state()
    inspect_story(model, guide, x, D)
    assert torch.equal(state, torch.get_rng_state())
    assert not len(pyro.get_param_store())
    assert (model.training, model.likelihood.training, guide.training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert all(p.grad is None for p in (*model.parameters(), *guide.parameters()))


def test_the_command_refuses_what_is_not_about_the_story():
    with pytest.raises(InputError, match="latent_dim is 0"):
        check("simvae", latent_dim=0)
    with pytest.raises(InputError, match="style_scale is -1"):
        check({"class_path": "simvae", "init_args": {"style_scale": -1.0}}, network=SMALL)


# -- normalization ----------------------------------------------------------------------------------------------


class Squares(dist.TorchDistribution):
    """-w (x - loc)², the mean squared error as a "density": it integrates to √(π / w) a pixel."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, loc, weight=1.0, event_dim=0):
        self.loc, self.weight = loc, weight
        split = loc.dim() - event_dim
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return Squares(self.loc.expand(*batch_shape, *self.event_shape), self.weight, len(self.event_shape))

    def sample(self, sample_shape=()):
        return self.loc.expand(*sample_shape, *self.loc.shape)

    def log_prob(self, value):
        squares = (value - self.loc).square() * self.weight
        return -squares.flatten(-len(self.event_shape)).sum(-1) if self.event_shape else -squares


class Entangled(Squares):
    """Pixels that depend on each other."""

    def log_prob(self, value):
        return -(value - self.loc).flatten(-len(self.event_shape)).sum(-1).square()


X = torch.linspace(0.01, 0.99, 24).reshape(2, 1, 3, 4)
NORMALIZED = {
    "narrow": dist.Normal(X, 1e-3),
    "wide": dist.Normal(X, 30.0),
    "far": dist.Normal(X + 500, 0.1),
    "heavy": dist.StudentT(2.5, X, 0.05),
    "unit": dist.ContinuousBernoulli(logits=20 * (X - 0.5)),
    "beta": dist.Beta(0.7 + 50 * X, 2.0),
    "positive": dist.LogNormal(X, 0.5),
    "counts": dist.Poisson(20 * X),
    "binary": dist.Bernoulli(X),
    "levels": dist.Binomial(16, X),
    "letters": dist.OneHotCategorical(logits=X),
    "dependent": dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + 0.5).expand((2, 1, 3)),
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_normalized_density_integrates_to_one(name):
    fn, x = NORMALIZED[name], X.round() if name in ("counts", "binary", "levels") else X
    assert log_mass(fn, x) == pytest.approx(0, abs=1e-3)
    assert log_mass(fn.to_event(len(fn.batch_shape) - 2), x) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("event_dim", [0, 2])
@pytest.mark.parametrize("weight", [0.1, 1.0, 50.0])
def test_the_mass_of_squared_errors_is_the_closed_form(event_dim, weight):
    fn = Squares(X, weight, event_dim)
    assert log_mass(fn, X + 0.1) == pytest.approx(math.log(math.pi / weight) / 2, abs=1e-3)


def test_a_density_that_cannot_be_taken_apart_is_not_judged():
    assert log_mass(Entangled(X, event_dim=2), X) is None
    many = torch.zeros(1, 1, 40, 40)
    assert log_mass(Squares(many, event_dim=2), many) is None


@pytest.mark.parametrize(("cls", "kind"), [(Squares, "not_normalized"), (Entangled, "not_checked")])
def test_a_density_of_ones_own_is_looked_at(cls, kind):
    class Own(Likelihood):
        def pixels(self, decoded):
            return cls(decoded, event_dim=3)

        def check(self, x):
            pass

    model, encoder, x = parts(likelihood=Own)
    assert found(inspect_story(model, MeanField(model, encoder), x, D)) == [(kind, "x")]


# -- the report -------------------------------------------------------------------------------------------------


def test_a_report_keeps_the_first_of_each_kind_and_faults_first():
    remark, fault = Finding("a", "z", "one", "mend", False), Finding("b", "z", "two", "mend")
    assert unique([remark, fault, fault._replace(message="again")]) == [fault, remark]
    assert Report([], [fault, remark]).faults == [fault]
    assert str(fault) == "fault b: z: two: mend"
