"""MoCo against lightly's memory bank and against the equation of the paper, value and gradient; the queue."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.queue import Queue


def with_lightly(z, target, queue, temperature):
    """Each view in turn the query, with the same bank."""
    losses = []
    for j in range(2):
        reference = NTXentLoss(temperature, memory_bank_size=tuple(queue.shape))
        reference.memory_bank.bank = F.normalize(queue, dim=-1)
        losses.append(reference(z[:, j], target[:, 1 - j]))
    return sum(losses) / 2


@pytest.mark.parametrize(("num_groups", "dim", "size"), [(1, 3, 4), (7, 2, 5), (32, 16, 64)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_lightlys(assert_same, representations, num_groups, dim, size, temperature, collapsed):
    z, target = (representations(num_groups, 2, dim, collapsed) for _ in range(2))
    limit = limits.moco(temperature, queue_size=size)
    loss = limit.loss(z, target=target).total
    assert_same(loss, with_lightly(z, target.detach(), limit.queue.rows, temperature), z)


def test_more_views_are_equation_1_on_each_pair(assert_same, representations):
    z, target = representations(5, 3, 4), representations(5, 3, 4).detach()
    limit = limits.moco(0.2, queue_size=6)
    loss = limit.loss(z, target=target).total
    query, key = F.normalize(z, dim=-1), F.normalize(target, dim=-1)
    queue = F.normalize(limit.queue.rows, dim=-1)
    total = 0.0
    for i in range(5):
        for j in range(3):
            for other in {0, 1, 2} - {j}:
                positive = torch.exp(query[i, j] @ key[i, other] / 0.2)
                negatives = torch.exp(queue @ query[i, j] / 0.2).sum()
                total = total - torch.log(positive / (positive + negatives))
    assert_same(loss, total / 30, z)


def test_terms_are_those_of_the_literature(representations):
    z, target = representations(6, 2, 4), representations(6, 2, 4).detach()
    terms = limits.moco(0.2, queue_size=5).loss(z, target=target)
    cosine = F.cosine_similarity(z, target.flip(1), dim=-1)
    torch.testing.assert_close(terms["agreement"], -cosine.mean() / 0.2)


def test_queue_keeps_the_latest_in_order():
    queue = Queue(5, 1)
    start = queue.rows.clone()
    assert queue.add(torch.tensor([[1.0], [2.0]])) == 2
    torch.testing.assert_close(queue.rows, torch.cat([torch.tensor([[1.0], [2.0]]), start[2:]]))
    queue.add(torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]]))
    assert queue.rows.flatten().tolist() == [6, 2, 3, 4, 5]
    assert queue.add(torch.arange(10.0, 17)[:, None]) == 5
    assert sorted(queue.rows.flatten().tolist()) == [12, 13, 14, 15, 16]


def test_the_keys_enter_after_the_step(representations):
    z, target = representations(2, 2, 3), F.normalize(representations(2, 2, 3).detach(), dim=-1)
    limit = limits.moco(queue_size=8)
    before = limit.loss(z, target=target).total
    torch.testing.assert_close(limit.loss(z, target=target).total, before)
    limit.update(z.detach(), Given(target=target))
    torch.testing.assert_close(limit.queue.rows[:4], target.flatten(0, 1))
    after = limit.loss(z, target=target).total
    assert after != before
    torch.testing.assert_close(after, with_lightly(z, target, limit.queue.rows, 0.07))


def test_backward_after_the_queue_has_moved(representations):
    z, target = representations(2, 2, 3), representations(2, 2, 3).detach()
    limit = limits.moco(queue_size=4)
    loss = limit.loss(z, target=target).total
    expected = torch.autograd.grad(loss, z, retain_graph=True)[0]
    limit.update(z.detach(), Given(target=target))
    torch.testing.assert_close(torch.autograd.grad(loss, z)[0], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queue_size": 0}, "queue_size is 0: give a whole number, 1 or more"),
        ({"queue_size": 1.5}, "queue_size is 1.5"),
        ({"momentum": 1.1}, "momentum is 1.1: give a number from 0 to 1"),
        ({"momentum": math.nan}, "momentum is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        limits.moco(**arguments)
