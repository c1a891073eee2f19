"""SupCon against equation 2 of its paper, NT-Xent, and the derivation of what it is in the program."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from pyro.infer import Trace_ELBO
from torch.distributions import Normal
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits import entropy
from pyro_simvae.local_params import local_params

LABELS = [[0, 1, 0, 2, 0, 2, 1], [3, 3, 3, 3, 3, 3, 3], [0, 1, 2, 3, 4, 5, 6], [5, 0, 5, 5, 5, 1, 5]]


def supcon(z, labels, temperature):
    """Khosla et al. 2020, equation 2, the mean over anchors; an anchor without positives gives zero."""
    num_views = z.shape[1]
    z = F.normalize(z, dim=-1).flatten(0, 1)
    labels = labels.repeat_interleave(num_views)
    total = 0.0 * z.sum()
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        denominator = sum(torch.exp(z[i] @ z[a] / temperature) for a in others)
        for p in positives:
            total = total - torch.log(torch.exp(z[i] @ z[p] / temperature) / denominator) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("num_views", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_equation_2(assert_same, representations, labels, num_views, temperature, collapsed):
    z, labels = representations(7, num_views, 4, collapsed), torch.tensor(labels)
    assert_same(limits.supcon(temperature).loss(z, labels=labels).total, supcon(z, labels, temperature), z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_labels_of_their_own_give_nt_xent(assert_same, representations, temperature):
    z = representations(9, 2, 5)
    loss = limits.supcon(temperature).loss(z, labels=torch.randperm(9)).total
    assert_same(loss, NTXentLoss(temperature)(z[:, 0], z[:, 1]), z)


def test_anchors_without_positives_pull_at_nothing(representations):
    z = representations(5, 1, 3)
    loss = limits.supcon().loss(z, labels=torch.arange(5)).total
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    torch.testing.assert_close(gradient, torch.zeros_like(z))


def test_pieces_are_the_whole(assert_same, representations, monkeypatch):
    z, labels = representations(7, 2, 4), torch.tensor(LABELS[0])
    whole = limits.supcon().loss(z, labels=labels).total
    monkeypatch.setattr(entropy, "CHUNK", 40)
    assert_same(limits.supcon().loss(z, labels=labels).total, whole, z)


def predicted_by_all(z, labels, style_scale):
    """Agreement of the full leave-one-out, log Normal(z; m, s² (1 + 1/n)), as the docstring of SupCon expands it."""
    dim = z.shape[-1]
    found = torch.zeros(len(z), dtype=z.dtype)
    for i in range(len(z)):
        others = torch.stack([z[p] for p in range(len(z)) if p != i and labels[p] == labels[i]])
        n, m = len(others), others.mean(0)
        scale = style_scale * math.sqrt(1 + 1 / n)
        constant = -dim * math.log(2 * math.pi * scale**2) / 2
        found[i] = (z[i] @ m - m @ m / 2 - 1 / 2) * n / ((n + 1) * style_scale**2) + constant
        torch.testing.assert_close(found[i], Normal(m, scale).log_prob(z[i]).sum())
    return found


def test_leave_one_out_is_another_loss_for_labels_of_three(representations):
    z, labels, temperature = representations(6, 1, 4), torch.tensor([0, 1, 0, 1, 0, 1]), 0.4
    limit = limits.supcon(temperature, content="leave-one-out")
    terms = limit.loss(z, labels=labels)
    unit = F.normalize(z, dim=-1).flatten(0, 1)
    expected = predicted_by_all(unit, labels, math.sqrt(temperature / 2))
    constant = limit.constants(6, 1, 4)["agreement"]
    torch.testing.assert_close(terms["agreement"], constant - expected.mean())
    pairwise = limits.supcon(temperature).loss(z, labels=labels)
    assert not torch.isclose(terms.total, pairwise.total, rtol=1e-2)


def test_leave_one_out_is_the_same_loss_for_labels_of_two_or_one(assert_same, representations):
    z, labels = representations(7, 1, 4), torch.tensor([0, 4, 1, 0, 1, 2, 3])
    pairwise = limits.supcon().loss(z, labels=labels).total
    assert_same(limits.supcon(content="leave-one-out").loss(z, labels=labels).total, pairwise, z)


@pytest.mark.parametrize(("num_views", "content_scale"), [(1, 1.0), (2, 1.0), (2, math.inf), (3, math.inf)])
def test_is_the_limit_of_the_program(pair, num_views, content_scale):
    model, guide = pair(content_scale=content_scale)
    limit, labels = limits.supcon(), torch.tensor(LABELS[0])
    x = torch.randn(7, num_views, 5, dtype=torch.float64)
    limited = limit(model, guide)
    with local_params(*limited):
        objective = -Trace_ELBO().differentiable_loss(*limited, x, labels=labels)
    loc, _ = guide.encoder(x)
    loss = limit.loss(loc, labels=labels).total
    found = -objective / (7 * num_views) + math.log(7 * num_views - 1)
    torch.testing.assert_close(found, loss, rtol=1e-7, atol=1e-12)
    weights = list(guide.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, allow_unused=True),
        torch.autograd.grad(loss, weights, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


def test_joint_content_is_refused():
    with pytest.raises(InputError, match="joint content scores the story's own groups"):
        limits.supcon(content="joint")


def test_labels_are_needed(representations):
    with pytest.raises(InputError, match="SupCon needs labels beside the views"):
        limits.supcon().loss(representations(4, 2, 3))
    with pytest.raises(InputError, match="give one for each of 4 groups"):
        limits.supcon().loss(representations(4, 2, 3), labels=torch.zeros(3, dtype=torch.long))
