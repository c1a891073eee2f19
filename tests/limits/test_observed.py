"""Softmax over classes and over items: against torch, the equations, and the program."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from torch.distributions import Normal
from torch.nn import functional as F

from pyro_simvae import cli, limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits import entropy
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import GaussianLatents, TracedLatents
from pyro_simvae.local_params import local_params
from pyro_simvae.models import SimVAE

SIZES = [(1, 1, 2), (5, 2, 3), (16, 3, 8)]
KEEP = {"rtol": 1e-7, "atol": 1e-12}


class StudentStyle(SimVAE):
    def latent(self, content):
        return dist.StudentT(3.0, content, self.style_scale, validate_args=False).to_event(1)


def negative_objective(pair, x, **observed):
    with local_params(*pair):
        return Trace_ELBO().differentiable_loss(*pair, x, **observed)


def cross_entropy(z, contents, picked, temperature):
    """Zhai and Wu 2019 and Wu et al. 2018, equation 2: softmax over cosines, the mean over views."""
    logits = F.normalize(z, dim=-1).flatten(0, 1) @ F.normalize(contents, dim=-1).T / temperature
    return F.cross_entropy(logits, picked.repeat_interleave(z.shape[1]))


@pytest.mark.parametrize(("num_groups", "num_views", "dim"), SIZES)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("collapsed", [False, True])
def test_softmax_is_cross_entropy(representations, num_groups, num_views, dim, temperature, collapsed):
    z, labels = representations(num_groups, num_views, dim, collapsed), torch.randint(6, (num_groups,))
    limit = limits.softmax(6, temperature)
    loss = limit.loss(z, labels=labels).total
    reference = cross_entropy(z, limit.weight, labels, temperature)
    torch.testing.assert_close(loss, reference, **KEEP)
    ours, theirs = (torch.autograd.grad(value, [z, limit.weight]) for value in (loss, reference))
    torch.testing.assert_close(ours, theirs, **KEEP)


def test_norms_and_class_probabilities_would_be_the_biases_of_a_linear_classifier():
    """The derivation behind the claim: log p(y | z) of any Gaussian classes of one scale is a linear softmax."""
    z, means, s = torch.randn(7, 3), torch.randn(4, 3), 0.6
    log_prior = torch.randn(4).log_softmax(-1)
    joint = Normal(means, s).log_prob(z[:, None]).sum(-1) + log_prior
    linear = z @ means.T / s**2 - means.square().sum(-1) / (2 * s**2) + log_prior
    torch.testing.assert_close(joint.log_softmax(-1), linear.log_softmax(-1), rtol=1e-4, atol=1e-4)


def npid(z, memory, index, temperature):
    """Wu et al. 2018, equation 2, item by item."""
    total = 0.0
    for i, views in enumerate(F.normalize(z, dim=-1)):
        for v in views:
            scores = torch.stack([torch.exp(item @ v / temperature) for item in memory])
            total = total - torch.log(scores[index[i]] / scores.sum())
    return total / (z.shape[0] * z.shape[1])


@pytest.mark.parametrize(("num_groups", "num_views", "dim"), SIZES)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("collapsed", [False, True])
def test_npid_is_equation_2(assert_same, representations, num_groups, num_views, dim, temperature, collapsed):
    limit, index = limits.npid(20, temperature), torch.randperm(20)[:num_groups]
    limit.build(dim)
    limit.memory = F.normalize(limit.memory.double(), dim=-1)  # built in float32, of unit length to its precision
    for _ in range(2):  # with the first memory, and once it has moved
        z = representations(num_groups, num_views, dim, collapsed)
        loss = limit.loss(z, index=index).total
        assert_same(loss, npid(z, limit.memory, index, temperature), z)
        limit.update(limit.geometry(z).detach(), Given(index=index))


def test_memory_moves_towards_what_is_seen(representations):
    limit, index = limits.npid(5, memory_momentum=0.7), torch.tensor([3, 1])
    limit.build(4)
    before, z = limit.memory.clone(), F.normalize(representations(2, 1, 4).float(), dim=-1).detach()
    limit.update(z, Given(index=index))
    torch.testing.assert_close(limit.memory[index], F.normalize(0.7 * before[index] + 0.3 * z[:, 0], dim=-1))
    torch.testing.assert_close(limit.memory[[0, 2, 4]], before[[0, 2, 4]])


def test_more_views_move_the_memory_by_their_mean(representations):
    limit, z = limits.npid(3, memory_momentum=0.0), F.normalize(representations(1, 3, 4).float(), dim=-1).detach()
    limit.build(4)
    limit.update(z, Given(index=torch.tensor([2])))
    torch.testing.assert_close(limit.memory[2], F.normalize(z[0].mean(0), dim=-1))


def test_pieces_are_the_whole(assert_same, representations, monkeypatch):
    limit, z, index = limits.npid(30), representations(6, 2, 4), torch.arange(6)
    whole = limit.loss(z, index=index).total
    monkeypatch.setattr(entropy, "CHUNK", 70)
    assert_same(limit.loss(z, index=index).total, whole, z)


CASES = [("softmax", "labels", 6), ("npid", "index", 30)]


@pytest.mark.parametrize(("name", "observed", "size"), CASES)
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("content_scale", [0.7, math.inf])
def test_is_the_limit_of_the_program(pair, name, observed, size, num_views, content_scale):
    model, guide = pair(content_scale=content_scale)
    limit_model, limit_guide = getattr(limits, name)(size)(model, guide)
    limit, picked = limit_model.limit.double(), torch.randperm(6)
    x = torch.randn(6, num_views, 5, dtype=torch.float64)
    loc, _ = guide.encoder(x)
    loss = limit.loss(loc, **{observed: picked}).total
    found = negative_objective((limit_model, limit_guide), x, **{observed: picked}) / (6 * num_views)
    found = found + limit.constants(6, num_views, 4)["entropy"] + limit.constants(6, num_views, 4)["agreement"]
    torch.testing.assert_close(found, loss, **KEEP)
    weights = [*guide.parameters(), *limit.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, allow_unused=True),
        torch.autograd.grad(loss, weights, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **KEEP)


def test_classes_are_parameters_of_the_pair_and_the_memory_is_in_its_state(pair):
    model, guide = pair()
    softmax, _ = limits.softmax(6)(model, guide)
    assert softmax.limit.weight.shape == (6, 4)
    assert any(parameter is softmax.limit.weight for parameter in softmax.parameters())
    first, _ = limits.npid(9)(model, guide)
    second, _ = limits.npid(9)(model, guide)
    assert not torch.equal(first.limit.memory, second.limit.memory)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.limit.memory, second.limit.memory)


def test_memory_moves_in_training_steps_only(pair):
    limit_model, limit_guide = limits.npid(9)(*pair())
    x, index = torch.randn(4, 2, 5, dtype=torch.float64), torch.tensor([2, 0, 8, 5])
    pair = limit_model, limit_guide
    before = limit_model.limit.memory.clone()
    with torch.no_grad():
        negative_objective(pair, x, index=index)
    limit_model.eval()
    negative_objective(pair, x, index=index)
    assert torch.equal(limit_model.limit.memory, before)
    limit_model.train()
    negative_objective(pair, x, index=index).backward()
    changed = (limit_model.limit.memory != before).any(-1)
    assert changed.nonzero().flatten().tolist() == [0, 2, 5, 8]


def test_edited_story_edits_the_loss(pair):
    """A Student-t style: classes by Bayes' rule with heavy tails, and content priors do not matter."""
    model, guide = pair(StudentStyle, style_scale=0.5)
    limit_model, limit_guide = limits.softmax(6, temperature=None)(model, guide)
    labels, x = torch.tensor([0, 5, 2, 2]), torch.randn(4, 2, 5, dtype=torch.float64)
    found = negative_objective((limit_model, limit_guide), x, labels=labels) / 8
    z = F.normalize(guide.encoder(x)[0], dim=-1).flatten(0, 1)
    classes = F.normalize(limit_model.limit.weight, dim=-1).double()
    log_joint = dist.StudentT(3.0, classes, 0.5).log_prob(z[:, None]).sum(-1)
    expected = F.cross_entropy(log_joint, labels.repeat_interleave(2)) - math.log(6)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_densities_given_content(pair, num_views, unit):
    z, content = torch.randn(4, num_views, 4, dtype=torch.float64), torch.randn(4, 1, 4, dtype=torch.float64)
    gaussian, student = GaussianLatents(0.6, math.inf, unit), TracedLatents(pair(StudentStyle)[0], unit=unit)
    cases = [(gaussian, dist.Normal(unit * content, 0.6)), (student, dist.StudentT(3.0, unit * content, 0.4))]
    for latents, naive in cases:
        expected = (naive.log_prob(unit * z) + math.log(unit)).sum(-1)
        torch.testing.assert_close(latents.given_content(z, content), expected, rtol=1e-6, atol=1e-6)
        kernel = latents.content_kernel(z[:, 0], content[:, 0])
        torch.testing.assert_close(kernel.diagonal(), latents.given_content(z, content)[:, 0])
        row = latents.given_content(z[:1, :1].expand(4, 1, 4), content)[:, 0]
        torch.testing.assert_close(kernel[0], row)


@pytest.mark.parametrize("name", ["softmax", "npid", "supcon"])
def test_fits_from_the_command_line(images, tmp_path, name):
    options = f"--network mlp --network.hidden [8] --latent_dim 3 --training.epochs 2 --limit {name}"
    fit = ["fit", "--data", f"arrays:{images}", *options.split(), "--training.num_groups", "8"]
    assert cli.main([*fit, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("limit", [limits.softmax, limits.npid])
def test_bad_arguments_are_refused(limit):
    with pytest.raises(InputError, match="tells 1 classes or items apart"):
        limit(1)
    with pytest.raises(InputError, match="temperature is -1"):
        limit(5, temperature=-1.0)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_memory_momentum_must_leave_room(momentum):
    with pytest.raises(InputError, match=r"give a number in \[0, 1\)"):
        limits.npid(5, memory_momentum=momentum)


@pytest.mark.parametrize(("name", "observed", "size"), CASES)
def test_indices_must_exist(representations, name, observed, size):
    z, limit = representations(3, 2, 4), getattr(limits, name)(size)
    for wrong in (size, -1):
        with pytest.raises(InputError, match=f"give whole numbers from 0 to {size - 1}"):
            limit.loss(z, **{observed: torch.tensor([0, wrong, 1])})
    with pytest.raises(InputError, match=f"needs {observed} beside the views"):
        limit.loss(z)


def test_indices_are_not_looked_at_without_validation(representations):
    with pyro.validation_enabled(False):
        assert limits.softmax(3).check(representations(2, 2, 4), Given(labels=torch.tensor([0, 7]))) is None
