"""The multimodal story against brute force; a missing modality is marginalised, never filled in."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import nn

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.svi import check_pair
from pyro_simvae.likelihoods import Categorical, ContinuousBernoulli, Normal, check_support
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import Multimodal, SimVAE
from pyro_simvae.networks import MLP, Encoder, Encoders

SHAPES = {"image": (1, 4, 5), "text": (3, 6), "sound": (7,)}
FAMILIES = {"image": ContinuousBernoulli, "text": Categorical, "sound": lambda d: Normal(d, learn_scale=True)}
D = 3


def batch_normalised(encoder):
    """Its latent depends on the other rows of a batch: what is missing must not be one of them."""
    return Encoder(nn.Sequential(encoder.features, nn.BatchNorm1d(8)), 8, encoder.event_shape, encoder.latent_dim)


def pair(names=("image", "text"), content="auto", **arguments):
    torch.manual_seed(0)
    network = MLP([8])
    model = Multimodal({n: FAMILIES[n](network.decoder(SHAPES[n], D)) for n in names}, D, **arguments)
    encoder = Encoders({n: batch_normalised(network.encoder(SHAPES[n], D)) for n in names})
    return LedgerELBO(model, MeanField(model, encoder, content)).double()


def batch(num_groups, names=("image", "text"), present=None):
    views = {n: torch.rand(num_groups, *SHAPES[n], dtype=torch.float64) for n in names}
    if "text" in views:
        views["text"] = nn.functional.one_hot(views["text"].argmax(-1), SHAPES["text"][1]).double()
    return Modalities(views, None if present is None else torch.tensor(present))


def value_and_gradients(function, pair):
    pair.zero_grad()
    torch.manual_seed(1)
    value = function()
    value.backward()
    return value.detach(), {name: p.grad for name, p in pair.named_parameters() if p.grad is not None}


def by_hand(pair, x):
    """Σ_m log p(x_m|z_m) - log q(z_m|x_m) over what is there, plus the evidence of just those latents."""
    model, guide = pair.model, pair.guide
    num_groups, num_modalities = x.shape
    noise = torch.randn(num_groups, num_modalities, D, dtype=torch.float64)
    z, total = {}, 0.0
    for m, (name, view) in enumerate(x.views.items()):
        rows = torch.arange(num_groups) if x.present is None else x.present[:, m].nonzero()[:, 0]
        loc, scale = guide.encoder.encoders[name](view[rows])
        latents = loc + scale * noise[rows, m]
        total = total + model.likelihood[name](latents[:, None]).log_prob(view[rows, None]).sum()
        total = total - torch.distributions.Normal(loc, scale).log_prob(latents).sum()
        z[name] = dict(zip(rows.tolist(), latents, strict=True))
    for i in range(num_groups):
        group = torch.stack([latents[i] for latents in z.values() if i in latents])
        total = total + conjugate.group_evidence(group, model.style_scale, model.content_scale)
    return total


MISSING = [[True, False, True], [True, True, True], [False, True, True], [False, False, True], [True, True, False]]


@pytest.mark.parametrize("present", [None, MISSING])
@pytest.mark.parametrize("story", [{}, {"content_scale": 0.3, "style_scale": 2.0}])
def test_elbo_is_that_of_the_modalities_that_are_there(story, present):
    elbo, x = pair(SHAPES, **story), batch(5, SHAPES, present)
    value, gradients = value_and_gradients(lambda: elbo(x).objective, elbo)
    reference, reference_gradients = value_and_gradients(lambda: by_hand(elbo, x), elbo)
    torch.testing.assert_close(value, reference, rtol=1e-10, atol=0)
    assert gradients.keys() == reference_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, reference_gradients[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("content", ["conjugate", "amortized", "point"])
@pytest.mark.parametrize("filler", [5.0, math.nan])
def test_what_is_missing_is_never_looked_at(content, filler):
    elbo, x = pair(SHAPES, content), batch(5, SHAPES)
    views = {name: view.clone() for name, view in x.views.items()}
    present = torch.tensor(MISSING)
    for m, view in enumerate(views.values()):
        view[~present[:, m]] = filler
    found = [value_and_gradients(lambda v=v: elbo(Modalities(v, present)).objective, elbo) for v in (x.views, views)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[0][0].isfinite()


@pytest.mark.parametrize("content", ["conjugate", "amortized", "point"])
def test_group_with_one_modality_is_a_group_of_one_view(content):
    """The program of the rest, run by itself: SimVAE with J = 1."""
    elbo, x = pair(("image", "sound"), content), batch(4, ("image", "sound"), [[True, False]] * 4)
    single = SimVAE(elbo.model.likelihood["image"], D).double()
    guide = MeanField(single, elbo.guide.encoder.encoders["image"], content).double()
    if content == "amortized":
        guide.content = elbo.guide.content
    single = LedgerELBO(single, guide)
    noise = torch.randn(4, 2, D, dtype=torch.float64)
    with fixed_noise(noise):
        ledger = elbo(x)
    with fixed_noise(noise[:, :1]):
        reference = single(x.views["image"][:, None])
    torch.testing.assert_close(ledger.objective, reference.objective)
    for name in ("log_p/z", "log_q/z", "log_p/content", "log_q/content"):
        torch.testing.assert_close(ledger.terms[name], reference.terms[name])
    assert ledger.terms["log_p/x_sound"] == 0


class fixed_noise(poutine.messenger.Messenger):
    """Draws z from given noise, and content at its mean."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg):
        fn = msg["fn"]
        if msg["done"] or not hasattr(fn, "mean"):
            return
        if msg["name"] == "z":
            msg["value"], msg["done"] = fn.mean + fn.stddev * self.noise, True
        elif msg["name"] == "content":
            msg["value"], msg["done"] = fn.mean, True


@pytest.mark.parametrize("present", [None, [[True, False]], [[False, True]]])
def test_evidence_by_brute_force_quadrature(present):
    """D = 1: the program's density, summed over a grid of content and of the latents that are there."""
    names = ("image", "text")
    torch.manual_seed(0)
    network = MLP([4])
    model = Multimodal({n: FAMILIES[n](network.decoder(SHAPES[n], 1)) for n in names}, 1, content_scale=0.5).double()
    x = batch(1, names, present)
    there = present or [[True, True]]
    axis = torch.linspace(-4, 4, 71, dtype=torch.float64)
    grids = torch.meshgrid(axis, *(axis if flag else axis[35:36] for flag in there[0]), indexing="ij")
    content, *z = (grid.reshape(-1, 1, 1) for grid in grids)
    many = Modalities(
        {name: view.expand(len(content), *view.shape[1:]) for name, view in x.views.items()},
        None if present is None else torch.tensor(present).expand(len(content), 2),
    )
    conditioned = poutine.condition(model, data={"content": content, "z": torch.cat(z, 1)})
    trace = poutine.trace(conditioned).get_trace(many)
    trace.compute_log_prob()
    joint = sum(trace.nodes[name]["log_prob"].sum(-1) for name in ("content", "z", "x_image", "x_text"))
    found = joint.logsumexp(0) + (1 + sum(there[0])) * (axis[1] - axis[0]).log()
    torch.testing.assert_close(found, evidence(model, x, there[0], axis))


def evidence(model, x, there, axis):
    """log ∫ p(z's that are there) Π p(x|z), content integrated in closed form."""
    names = [name for name, flag in zip(x.views, there, strict=True) if flag]
    z = torch.stack(torch.meshgrid(*[axis] * len(names), indexing="ij"), -1).reshape(-1, len(names), 1)
    total = conjugate.group_evidence(z, model.style_scale, model.content_scale)
    for m, name in enumerate(names):
        total = total + model.likelihood[name](z[:, m]).log_prob(x.views[name].expand(len(z), *SHAPES[name]))
    return total.logsumexp(0) + len(names) * (axis[1] - axis[0]).log()


@pytest.mark.parametrize("present", [None, MISSING])
def test_ledger_is_trace_elbo(present):
    elbo, x = pair(SHAPES), batch(5, SHAPES, present)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with pyro.settings.context(module_local_params=True):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    assert {name for name in ledger.terms if name.startswith("log_p/x")} == {f"log_p/x_{name}" for name in SHAPES}


@pytest.mark.parametrize("present", [None, [[True, True]] * 6 + [[True, False], [False, True]]])
def test_pair_trains_in_plain_pyro(present):
    elbo, x = pair(), batch(8, present=present)
    check_pair(elbo, x)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    pyro.clear_param_store()


def test_pair_trains_on_the_ledger():
    elbo, x = pair(), batch(8)
    optimizer = torch.optim.Adam(elbo.parameters(), 1e-2)
    values = []
    for _ in range(40):
        objective = elbo(x).objective
        optimizer.zero_grad()
        (-objective).backward()
        optimizer.step()
        values.append(objective.item())
    assert sum(values[-10:]) > sum(values[:10])


def test_prior_draws_every_modality_or_the_first_ones():
    model = pair(SHAPES).model
    draws = Predictive(model, num_samples=5)(num_groups=2)
    assert {name: tuple(draw.shape) for name, draw in draws.items()} == {
        "content": (5, 2, 1, D),
        "z": (5, 2, 3, D),
        **{f"x_{name}": (5, 2, 1, *shape) for name, shape in SHAPES.items()},
    }
    assert set(model(num_groups=2, num_views=1)) == {"image"}


def test_full_mask_is_no_mask():
    x = batch(3, present=[[True, True]] * 3)
    assert x.present is None


def test_bad_modalities():
    views = batch(3).views
    for bad, text in (
        (lambda: Modalities({"image": views["image"]}), "modalities are image: give two or more"),
        (lambda: Modalities({}), "modalities are none"),
        (lambda: Modalities({"image": views["image"], "text": views["text"][:2]}), "there are 3 of image, 2 of text"),
        (lambda: Modalities(views, torch.ones(3, 2)), "present is torch.float32"),
        (lambda: Modalities(views, torch.ones(2, 3, dtype=torch.bool)), "give bool of shape"),
        (
            lambda: Modalities(views, torch.tensor([[True, True], [False, False], [True, False]])),
            "group 1 has no modality at all",
        ),
    ):
        with pytest.raises(InputError, match=text):
            bad()


def test_bad_stories():
    likelihood = ContinuousBernoulli(MLP([4]).decoder(SHAPES["image"], D))
    for bad in (likelihood, {"image": likelihood}):
        with pytest.raises(InputError, match="needs two or more modalities"):
            Multimodal(bad, D)
    with pytest.raises(InputError, match=r"style_scale is 0\.0: give a positive"):
        pair(style_scale=0.0)
    with pytest.raises(InputError, match=r"encoders have dimensions .*'text': 2"):
        Encoders({name: MLP([4]).encoder(SHAPES[name], d) for name, d in (("image", 3), ("text", 2))})


def test_mismatched_batches_are_refused():
    elbo = pair()
    for names in (("text", "image"), ("image", "sound"), SHAPES):
        with pytest.raises(InputError, match="and the story tells of image, text"):
            elbo.guide(batch(2, names))
        with pytest.raises(InputError, match="and the story tells of image, text"):
            elbo.model(batch(2, names))
    with pytest.raises(InputError, match="set num_views to 2 or fewer"):
        elbo.model(num_views=3)


def test_flat_content_refuses_a_group_of_one():
    elbo = pair(content_scale=math.inf)
    elbo(batch(3))
    with pytest.raises(InputError, match="without a prior"):
        elbo(batch(3, present=[[True, True], [True, False], [True, True]]))
    with pytest.raises(InputError, match="nothing to sample"):
        elbo.model()


def test_support_is_checked_where_views_are_there():
    model, x = pair().model, batch(3)
    check_support(model, x)
    for name, wrong in (("image", 2.0), ("text", 0.5)):
        views = x.views | {name: x.views[name].index_fill(0, torch.tensor([1]), wrong)}
        with pytest.raises(InputError, match="likelihood is"):
            check_support(model, Modalities(views))
        present = torch.ones(3, 2, dtype=torch.bool)
        present[1, list(views).index(name)] = False
        check_support(model, Modalities(views, present))


def test_categorical_is_a_probability_of_one_hot_text():
    likelihood = Categorical(MLP([4]).decoder((2, 3), D))
    view = likelihood(torch.randn(1, 1, D))
    words = [nn.functional.one_hot(torch.tensor([i, j]), 3).float() for i in range(3) for j in range(3)]
    total = torch.stack([view.log_prob(word[None, None]).exp() for word in words]).sum()
    torch.testing.assert_close(total, torch.ones(()))
    likelihood.check(words[0])
    for bad in (torch.full((2, 3), 0.5), torch.zeros(2, 3), torch.ones(2, 3)):
        with pytest.raises(InputError, match="one-hot"):
            likelihood.check(bad)
