"""The hierarchical story: labels summed out or observed, brute force over classes, Bayes' rule, and what it refuses."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from torch.distributions import MultivariateNormal
from torch.distributions import Normal as Gaussian

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.guides import AmortizedContent, MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Hierarchical
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D, K = 5, 3, 4


def pair(**arguments):
    with isolated(0):
        model = Hierarchical(Normal(MLP([4]).decoder((P,), D)), D, num_classes=K, **arguments)
        elbo = LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))).double()
        with torch.no_grad():
            model.logits.copy_(torch.randn(K))
    return elbo


def views(num_groups, num_views):
    with isolated(2):
        return torch.randn(num_groups, num_views, P, dtype=torch.float64)


def latents(elbo, x):
    """The z and content that the guide draws first."""
    with isolated(1), local_params(elbo):
        nodes = poutine.trace(elbo.guide).get_trace(x).nodes
    return {name: nodes[name]["value"] for name in ("z", "content")}


def log_joint(model, values, labels=None):
    """log p of each group's sites, `(N,)`; `values` of latents and views."""
    names = [*values, "label"]
    with local_params(model):
        trace = poutine.trace(poutine.condition(model, values)).get_trace(values["x"], labels=labels)
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"].sum(-1) for name in names)


@pytest.mark.parametrize("num_views", [1, 3])
def test_unknown_labels_are_summed_out(num_views):
    elbo, x = pair(), views(6, num_views)
    model, values = elbo.model, latents(elbo, x) | {"x": x}
    with isolated(1):
        ledger = elbo(x)
    by_class = torch.stack([log_joint(model, values, torch.full((6,), k)) for k in range(K)])
    log_p = ledger.objective + ledger.terms["log_q/z"] + ledger.terms["log_q/content"]
    torch.testing.assert_close(log_p, by_class.logsumexp(0).sum())
    weights = model.logits.softmax(0)
    densities = [w * Gaussian(m, 0.5).log_prob(values["content"]).sum(-1).exp() for w, m in zip(weights, model.locs)]  # noqa: B905
    torch.testing.assert_close(ledger.terms["log_p/content"], sum(densities).log().sum().detach())
    assert set(ledger.terms) == {"log_p/content", "log_p/z", "log_p/x", "log_q/z", "log_q/content"}


def gradients(value, elbo):
    return torch.autograd.grad(value, list(elbo.parameters()))


@pytest.mark.parametrize("labels", [None, torch.tensor([3, 0, 1, 1, 2, 3])])
def test_ledger_agrees_with_pyro(labels):
    elbo, x = pair(observe_labels=True), views(6, 2)
    observed = {} if labels is None else {"labels": labels}
    with isolated(1):
        ledger = elbo(x, **observed)
    reference_elbo = TraceEnum_ELBO(max_plate_nesting=2) if labels is None else Trace_ELBO()
    with isolated(1), local_params(elbo):
        reference = -reference_elbo.differentiable_loss(lambda x: elbo.model(x, labels=labels), elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(gradients(ledger.objective, elbo), gradients(reference, elbo))


def test_observed_labels_place_their_items():
    elbo, x, labels = pair(observe_labels=True), views(4, 2), torch.tensor([3, 0, 0, 2])
    content = latents(elbo, x)["content"]
    with isolated(1):
        ledger = elbo(x, labels=labels)
    model = elbo.model
    torch.testing.assert_close(ledger.terms["log_p/label"], model.logits.log_softmax(0)[labels].sum().detach())
    expected = Gaussian(model.locs[labels], 0.5).log_prob(content.squeeze(1)).sum()
    torch.testing.assert_close(ledger.terms["log_p/content"], expected.detach())
    (pull,) = torch.autograd.grad(ledger.objective, model.locs)
    assert (pull != 0).any(-1).tolist() == [True, False, True, True]


def test_labels_are_observed_only_if_the_user_wants_them():
    assert pair().observes == set()
    assert pair(observe_labels=True).observes == {"labels"}


@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_responsibilities_and_evidence_are_bayes_rule(num_views):
    model = pair().model
    with isolated(1):
        z = torch.randn(6, num_views, D, dtype=torch.float64)
    covariance = 0.2**2 * torch.eye(num_views, dtype=z.dtype) + 0.5**2
    zero = torch.zeros(num_views, dtype=z.dtype)
    by_class = [MultivariateNormal(zero, covariance).log_prob((z - m).mT).sum(-1).exp() for m in model.locs]
    joint = model.logits.softmax(0) * torch.stack(by_class, -1)
    torch.testing.assert_close(model.evidence(z), joint.sum(-1).log())
    torch.testing.assert_close(model.responsibilities(z), joint / joint.sum(-1, keepdim=True))


def test_evidence_is_that_of_the_program():
    # log p(c) + log p(z | c) - log p(c | z) is log p(z) at every c; the posterior of c is a mixture over classes.
    elbo, x = pair(), views(6, 3)
    model, values = elbo.model, latents(elbo, x)
    z, content = values["z"], values["content"]
    by_class = []
    for loc in model.locs:
        posterior = conjugate.content_posterior(z - loc, model.style_scale, model.content_scale)
        by_class.append(posterior.log_prob(content - loc).squeeze(-1))
    log_q = (model.responsibilities(z).log() + torch.stack(by_class, -1)).logsumexp(-1)
    with isolated(1):
        terms = elbo(x).terms
    torch.testing.assert_close(terms["log_p/content"] + terms["log_p/z"] - log_q.sum(), model.evidence(z).sum())


def test_far_latents_keep_finite_responsibilities():
    found = pair(style_scale=1e-3).model.responsibilities(torch.full((2, 2, D), 50.0, dtype=torch.float64))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, dtype=torch.float64))


def test_order_of_groups_and_of_views_does_not_matter():
    model = pair().model
    with isolated(3):
        sites = poutine.trace(model).get_trace(num_groups=6, num_views=3).nodes
        groups, order = torch.randperm(6), torch.randperm(3)
    labels = sites["label"]["value"].squeeze(-1)
    values = {name: sites[name]["value"] for name in ("content", "z", "x")}
    expected = log_joint(model, values, labels)
    permuted = {name: value[groups] for name, value in values.items()}
    torch.testing.assert_close(log_joint(model, permuted, labels[groups]), expected[groups])
    shuffled = values | {name: values[name][:, order] for name in ("z", "x")}
    torch.testing.assert_close(log_joint(model, shuffled, labels), expected)
    torch.testing.assert_close(model.evidence(values["z"][groups][:, order]), model.evidence(values["z"])[groups])


def test_prior_draws_have_three_levels():
    model = pair().model
    draws = Predictive(model, num_samples=2)(num_groups=6, num_views=5)
    shapes = {"label": (2, 6, 1), "content": (2, 6, 1, D), "z": (2, 6, 5, D), "x": (2, 6, 5, P)}
    assert {name: draws[name].shape for name in shapes} == shapes
    with isolated(0):
        sites = poutine.trace(model).get_trace(num_groups=40_000, num_views=1).nodes
    label, content, z = (sites[name]["value"].squeeze(1) for name in ("label", "content", "z"))
    weights = label.bincount(minlength=K) / len(label)
    torch.testing.assert_close(weights.double(), model.logits.softmax(0).detach(), rtol=0, atol=0.01)
    assert (content - model.locs[label]).std().item() == pytest.approx(0.5, rel=0.01)
    assert (z.squeeze(1) - content).std().item() == pytest.approx(0.2, rel=0.01)


def test_content_guide_is_amortized():
    assert isinstance(pair().guide.content, AmortizedContent)
    check_story(pair().model, D, 2)


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 2, 3] * 2)])
def test_trains_in_plain_pyro(labels):
    elbo, x = pair(), views(8, 2)
    pyro.clear_param_store()
    loss = TraceEnum_ELBO(max_plate_nesting=2)
    svi = SVI(lambda x: elbo.model(x, labels=labels), elbo.guide, pyro.optim.Adam({"lr": 1e-2}), loss)
    with isolated(1):
        losses = [svi.step(x) for _ in range(60)]
    pyro.clear_param_store()
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize("observe_labels", [False, True])
def test_fits_digits(fit_images, observe_labels):
    spec = {"class_path": "pyro_simvae.models.Hierarchical", "init_args": {"observe_labels": observe_labels}}
    run = fit_images(data="digits", training={"epochs": 1, "num_groups": 64}, model=spec)
    assert ("log_p/label" in (run / "metrics.csv").read_text()) == observe_labels


def test_labels_must_be_classes():
    elbo, x = pair(observe_labels=True), views(2, 2)
    for wrong in (K, -1):
        with pytest.raises(InputError, match=f"labels lie in .* give whole numbers from 0 to {K - 1}"):
            elbo(x, labels=torch.tensor([0, wrong]))


@pytest.mark.parametrize("num_classes", [1, 0, 2.5])
def test_fewer_than_two_classes_are_refused(num_classes):
    with pytest.raises(InputError, match=f"num_classes is {num_classes}: give a whole number, 2 or more"):
        Hierarchical(Normal(MLP([4]).decoder((P,), D)), D, num_classes=num_classes)


@pytest.mark.parametrize("name", ["content_scale", "style_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_scale_that_is_not_positive_and_finite_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a positive finite number"):
        pair(**{name: value})
