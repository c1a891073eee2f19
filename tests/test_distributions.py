"""The quick Gaussian against Pyro's own."""

import pytest
import torch
from pyro import distributions as dist

from pyro_simvae.distributions import Gaussian


@pytest.mark.parametrize("shape", [(), (3,), (4, 1, 3), (4, 2, 3)])
def test_gaussian_is_the_independent_normal(shape):
    torch.manual_seed(0)
    loc, scale = torch.randn(4, 1, 3, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.1
    value = torch.randn(4, 2, 3, dtype=torch.float64)
    found, expected = Gaussian(loc, scale).expand([4, 2]), dist.Normal(loc, scale).to_event(1).expand([4, 2])
    assert (found.batch_shape, found.event_shape) == (expected.batch_shape, expected.event_shape)
    torch.testing.assert_close(found.log_prob(value), expected.log_prob(value))
    torch.manual_seed(1)
    draws = found.rsample()
    torch.manual_seed(1)
    assert torch.equal(draws, expected.rsample())


def test_gaussian_with_a_number_for_scale():
    loc = torch.randn(5, 3)
    torch.testing.assert_close(Gaussian(loc, 0.3).log_prob(loc), dist.Normal(loc, 0.3).to_event(1).log_prob(loc))
