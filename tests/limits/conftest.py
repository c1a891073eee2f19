"""What the tests of limits share: representations, small pairs, and equality in value and gradient."""

import math

import pytest
import torch

from pyro_simvae.guides import MeanField
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP


@pytest.fixture
def assert_same():
    """Two losses of the same leaf z agree in value and gradient."""

    def check(loss, reference, z, rtol=1e-7):
        torch.testing.assert_close(loss, reference, rtol=rtol, atol=1e-12)
        ours, theirs = torch.autograd.grad(loss, z)[0], torch.autograd.grad(reference, z)[0]
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-12)

    return check


@pytest.fixture
def representations():
    """A leaf `(N, J, D)` in float64; collapsed, all of it lies near one point."""

    def draw(num_groups, num_views, dim, collapsed=False):
        z = torch.randn(num_groups, num_views, dim, dtype=torch.float64)
        return (torch.ones_like(z) + 1e-3 * z if collapsed else z).requires_grad_()

    return draw


@pytest.fixture
def pair():
    """A story and its guide in float64, for views `(N, J, 5)`."""

    def make(story=SimVAE, dim=4, **arguments):
        if issubclass(story, SimVAE):
            arguments = {"content_scale": math.inf} | arguments
        model = story(Normal(MLP([4]).decoder((5,), dim)), dim, **arguments)
        return model.double(), MeanField(model, MLP([4]).encoder((5,), dim)).double()

    return make


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
