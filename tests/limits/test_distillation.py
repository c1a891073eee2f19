"""DINO against lightly, value and gradient, over steps that move the centre."""

import math

import pytest
import torch
from lightly.loss import DINOLoss
from torch import nn
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.given import Given


def outputs(z, prototypes):
    """The last layer of DINO's head, a list of views."""
    return list((F.normalize(z, dim=-1) @ F.normalize(prototypes, dim=-1).mT).unbind(1))


ROUNDED = float(torch.tensor(0.04))  # lightly keeps the teacher's temperature in float32


@pytest.mark.parametrize(("num_groups", "dim", "num_prototypes"), [(1, 3, 2), (7, 2, 5), (16, 16, 40)])
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("temperatures", [(0.1, ROUNDED), (0.5, 0.5)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_lightlys(assert_same, representations, num_groups, dim, num_prototypes, num_views, temperatures, collapsed):
    temperature, teacher_temperature = temperatures
    limit = limits.dino(num_prototypes, temperature, teacher_temperature)
    reference = DINOLoss(num_prototypes, teacher_temp=teacher_temperature, student_temp=temperature).double()
    for _ in range(3):
        z, target = (representations(num_groups, num_views, dim, collapsed) for _ in range(2))
        loss = limit.loss(z, target=target).total
        limit.update(z.detach(), Given(target=F.normalize(target.detach(), dim=-1)))
        theirs = reference(outputs(target.detach(), limit.teacher_prototypes), outputs(z, limit.prototypes))
        expected = torch.autograd.grad(theirs, limit.prototypes, retain_graph=True)
        found = torch.autograd.grad(loss, limit.prototypes, retain_graph=True)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)
        assert_same(loss, theirs, z)
        with torch.no_grad():
            limit.teacher_prototypes += 0.1 * torch.randn_like(limit.teacher_prototypes)
    torch.testing.assert_close(limit.center, reference.center.flatten(), rtol=1e-7, atol=1e-12)


def test_defaults_are_lightlys(assert_same, representations):
    z, target = representations(8, 2, 4), representations(8, 2, 4).detach()
    limit, reference = limits.dino(), DINOLoss(2048).double()
    loss = limit.loss(z, target=target).total
    assert_same(loss, reference(outputs(target, limit.teacher_prototypes), outputs(z, limit.prototypes)), z, rtol=1e-6)
    assert (limit.center_momentum, limit.momentum) == (reference.center_momentum, 0.996)


def test_the_teachers_side_gets_no_gradient(representations):
    z, target = representations(4, 2, 3), representations(4, 2, 3)
    limit = limits.dino(5)
    loss = limit.loss(z, target=target).total
    assert not limit.teacher_prototypes.requires_grad
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


def test_the_teachers_prototypes_follow(representations):
    limit = limits.dino(5, momentum=0.75)
    limit.build(3)
    start = limit.teacher_prototypes.clone()
    with torch.no_grad():
        limit.prototypes += 1
    limit.follow(nn.Identity())
    torch.testing.assert_close(limit.teacher_prototypes, start + 0.25)


@pytest.mark.parametrize("name", ["momentum", "center_momentum"])
def test_momenta_are_fractions(name):
    with pytest.raises(InputError, match=f"{name} is 2"):
        limits.dino(**{name: 2.0})


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_teacher_temperature_must_be_positive(value):
    with pytest.raises(InputError, match="teacher_temperature is"):
        limits.dino(teacher_temperature=value)
