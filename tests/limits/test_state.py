"""Limits with a teacher, predictor, queue, prototypes or centre: as pairs, over steps, restored, on two processes."""

import copy
import math
import os
import subprocess
import sys

import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import distributed

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.limits.given import Given
from pyro_simvae.models import SimVAE

MAKE = {
    "byol": lambda: limits.byol(8, momentum=0.9),
    "deepcluster": lambda: limits.deepcluster(5, memory_size=16),
    "dino": lambda: limits.dino(5, momentum=0.9),
    "moco": lambda: limits.moco(queue_size=16, momentum=0.9),
    "simsiam": lambda: limits.simsiam(8),
    "swav": lambda: limits.swav(5),
}
CONSTANTS = {  # of the claims' statements: the literature's loss less that of the objective, at D = 4
    "byol": -4 * math.log(math.pi) / 2,
    "deepcluster": math.log(5),
    "dino": math.log(5),
    "moco": math.log(16 + 1),
    "simsiam": -1 - 4 * math.log(2 * math.pi) / 2,
    "swav": math.log(5),
}
WITH_TEACHER = ["byol", "dino", "moco"]


class HeavyTailed(SimVAE):
    def latent(self, content):
        return dist.StudentT(4.0, content, self.style_scale, validate_args=False).to_event(1)


def views(num_groups=4, num_views=2):
    return torch.randn(num_groups, num_views, 5, dtype=torch.float64)


def fitted(pair, name, num_steps=3, **arguments):
    """The limit's ELBO and its optimizer, after a few steps."""
    model, guide = pair(**arguments)
    elbo = LedgerELBO(*MAKE[name]()(model, guide))
    optimizer = torch.optim.Adam([p for p in elbo.parameters() if p.requires_grad], lr=0.05)
    for _ in range(num_steps):
        step(elbo, optimizer, views())
    return elbo, optimizer


def step(elbo, optimizer, x):
    optimizer.zero_grad()
    objective = elbo(x).objective
    (-objective).backward()
    optimizer.step()
    return objective.detach()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("num_views", [2, 3])
def test_the_pair_has_the_loss_in_value_and_gradient(pair, name, num_views):
    elbo, _ = fitted(pair, name)
    elbo.eval()
    limit, guide, x = elbo.model.limit, elbo.guide.guide, views(4, num_views)
    weights = [*guide.encoder.parameters(), *(p for p in limit.parameters() if p.requires_grad)]
    target = None if limit.teacher is None else limit.teacher(x)
    loss = limit.loss(guide.latent(x).mean, target=target).total
    objective = elbo(x).objective
    torch.testing.assert_close(CONSTANTS[name] - objective / (4 * num_views), loss, rtol=1e-7, atol=1e-10)
    found = torch.autograd.grad(-objective / (4 * num_views), weights, allow_unused=True)
    for ours, theirs in zip(found, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", MAKE)
def test_an_edited_story_edits_the_loss(pair, name):
    """The same weights under a Student-t style: another objective, and finite slopes."""
    gaussian, _ = fitted(pair, name, 0)
    heavy, _ = fitted(pair, name, 0, story=HeavyTailed, content_scale=math.inf)
    heavy.load_state_dict(gaussian.state_dict(), strict=False)  # it has an amortized content guide besides
    x = views()
    found = heavy(x).objective
    assert not torch.isclose(found, gaussian(x).objective)
    found.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in heavy.parameters())


@pytest.mark.parametrize("name", MAKE)
def test_from_the_full_program_to_the_limit(pair, name):
    """At t = 0 the pair's own ELBO, in between finite, at t = 1 without the decoder."""
    model, guide = pair()
    limit, x = MAKE[name](), views()
    for limit.t in (0.0, 0.5, 1.0):
        elbo = LedgerELBO(*limit(model, guide))
        if limit.t == 1:
            model.likelihood.decoder.register_forward_pre_hook(lambda *_: pytest.fail("the decoder was run"))
        else:
            torch.manual_seed(3)
            plain = LedgerELBO(model, guide)(x).objective
        torch.manual_seed(3)
        objective = elbo(x).objective
        assert objective.isfinite()
        if limit.t == 0:
            torch.testing.assert_close(objective, plain)


def test_deepcluster_takes_single_views(pair):
    elbo = LedgerELBO(*MAKE["deepcluster"]()(*pair(content_scale=2.0)))
    assert elbo(views(4, 1)).objective.isfinite()


@pytest.mark.parametrize("name", MAKE)
def test_a_restored_state_takes_the_same_steps(pair, name):
    elbo, optimizer = fitted(pair, name, 5)
    other, others_optimizer = fitted(pair, name, 1)
    other.load_state_dict(elbo.state_dict())
    others_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for x in [views() for _ in range(4)]:
        assert torch.equal(step(elbo, optimizer, x), step(other, others_optimizer, x))
    for key, value in elbo.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", MAKE)
def test_only_training_steps_move_the_state(pair, name):
    elbo, optimizer = fitted(pair, name)
    before = {key: value.clone() for key, value in elbo.model.limit.state_dict().items()}
    elbo.eval()
    elbo(views())
    elbo.train()
    with torch.no_grad():
        elbo(views())
    after = elbo.model.limit.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for _ in range(2):
        step(elbo, optimizer, views())
    assert any(not torch.equal(before[key], value) for key, value in elbo.model.limit.state_dict().items())


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_follows_without_gradient(pair, name):
    elbo, optimizer = fitted(pair, name)
    limit = elbo.model.limit
    student, teacher = elbo.guide.guide, limit.teacher.guide
    expected = [0.9 * old + 0.1 * new for old, new in zip(teacher.parameters(), student.parameters(), strict=True)]
    step(elbo, optimizer, views())
    for weight, value in zip(teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.detach(), value.detach())
        assert weight.grad is None
        assert not weight.requires_grad


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_a_teacher_must_be_given(representations, name):
    z = representations(4, 2, 3)
    with pytest.raises(InputError, match="needs its teacher's representations: pass target="):
        MAKE[name]().loss(z)
    with pytest.raises(InputError, match=r"target has shape \(4, 3, 3\): give the representations' \(4, 2, 3\)"):
        MAKE[name]().loss(z, target=representations(4, 3, 3))


@pytest.mark.filterwarnings("ignore:.*was not registered in the param store")  # the teacher's, as it should be
@pytest.mark.parametrize("name", MAKE)
def test_pyros_own_svi_takes_it(pair, name):
    model, guide = MAKE[name]()(*pair(content_scale=2.0))
    svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert all(math.isfinite(svi.step(views())) for _ in range(3))


@pytest.mark.parametrize("name", MAKE)
def test_the_limit_itself_stays_as_it_is(pair, name):
    limit = MAKE[name]()
    limit(*pair())
    assert not limit.state_dict()


def on_batch(name, z, target):
    """Loss, gradients, and the state after a step; the same seed makes the same state."""
    torch.manual_seed(1)
    limit = MAKE[name]()
    z = z.clone().requires_grad_()
    target = target if name in WITH_TEACHER else None
    losses, slopes = [], []
    for _ in range(2):
        loss = limit.loss(z, target=target).total
        weights = [z, *limit.parameters()]
        slopes.append(torch.autograd.grad(loss, weights))
        losses.append(loss.detach())
        limit.update(limit.geometry(z.detach()), Given(target=None if target is None else limit.geometry(target)))
    return {"losses": losses, "slopes": slopes, "state": limit.state_dict()}


def joined_batch():
    return torch.randn(2, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def work(rank, folder):
    """One process of two, with this file as the program."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    z, target = (each[4 * rank : 4 * rank + 4] for each in joined_batch())
    torch.save({name: on_batch(name, z, target) for name in MAKE}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an ordinary end


def test_two_processes_are_one_with_the_joined_batch(tmp_path):
    z, target = joined_batch()
    joined = {name: on_batch(name, z, target) for name in MAKE}
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in MAKE:
        for state in (half[name]["state"] for half in halves):
            torch.testing.assert_close(state, joined[name]["state"])
        for n in range(2):
            first, second = (half[name]["slopes"][n] for half in halves)
            of_z, *of_weights = joined[name]["slopes"][n]
            mean = (halves[0][name]["losses"][n] + halves[1][name]["losses"][n]) / 2
            torch.testing.assert_close(mean, joined[name]["losses"][n])
            torch.testing.assert_close(torch.cat([first[0], second[0]]) / 2, of_z)
            for one, other, both in zip(first[1:], second[1:], of_weights, strict=True):
                torch.testing.assert_close((one + other) / 2, both)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
