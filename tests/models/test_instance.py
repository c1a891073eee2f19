"""The instance story: items observed, items summed out, and what it refuses."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO
from torch.distributions import Normal as Gaussian

from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Instance
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D, M = 5, 3, 7


@pytest.fixture
def elbo():
    torch.manual_seed(0)
    model = Instance(Normal(MLP([4]).decoder((P,), D)), D, num_items=M)
    return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))).double()


def latents(elbo, x):
    """The z that the guide draws first."""
    torch.manual_seed(1)
    with local_params(elbo):
        return poutine.trace(elbo.guide).get_trace(x).nodes["z"]["value"]


def gradients(value, elbo):
    return torch.autograd.grad(value, list(elbo.parameters()))


@pytest.mark.parametrize("num_views", [1, 3])
def test_observed_items_place_their_latents(elbo, num_views):
    x, index = torch.randn(4, num_views, P, dtype=torch.float64), torch.tensor([6, 0, 3, 3])
    z = latents(elbo, x)
    torch.manual_seed(1)
    ledger = elbo(x, index=index)
    assert set(ledger.terms) == {"log_p/z", "log_p/x", "log_q/z"}
    expected = sum(Gaussian(elbo.model.locs[i], 0.4).log_prob(group).sum() for i, group in zip(index, z, strict=True))
    torch.testing.assert_close(ledger.terms["log_p/z"], expected.detach())
    torch.manual_seed(1)
    with local_params(elbo):
        reference = -Trace_ELBO().differentiable_loss(lambda x: elbo.model(x, index=index), elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(gradients(ledger.objective, elbo), gradients(reference, elbo))
    (pull,) = torch.autograd.grad(elbo(x, index=index).objective, elbo.model.locs)
    assert (pull != 0).any(-1).nonzero().flatten().tolist() == [0, 3, 6]


@pytest.mark.parametrize("num_views", [1, 3])
def test_unknown_items_are_a_mixture_of_all(elbo, num_views):
    x = torch.randn(4, num_views, P, dtype=torch.float64)
    z = latents(elbo, x)
    torch.manual_seed(1)
    ledger = elbo(x)
    by_item = torch.stack([Gaussian(loc, 0.4).log_prob(z).sum((-2, -1)) for loc in elbo.model.locs])
    expected = by_item.exp().mean(0).log().sum()
    torch.testing.assert_close(ledger.terms["log_p/z"], expected.detach())
    torch.manual_seed(1)
    with local_params(elbo):
        reference = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(gradients(ledger.objective, elbo), gradients(reference, elbo))


def test_a_few_steps_find_a_place_for_every_item(elbo):
    # The decoder's noise is small, so that it pays to tell the items apart.
    torch.manual_seed(0)
    x, index = torch.randn(M, 1, P, dtype=torch.float64).expand(M, 2, P), torch.arange(M)
    optimizer = torch.optim.Adam(elbo.parameters(), 1e-2)
    objectives = []
    for _ in range(60):
        optimizer.zero_grad()
        objective = elbo(x, index=index).objective
        (-objective).backward()
        optimizer.step()
        objectives.append(objective.item())
    assert sum(objectives[-10:]) > sum(objectives[:10])


def test_prior_draws_items_evenly(elbo):
    draws = Predictive(elbo.model, num_samples=2)(num_groups=4, num_views=3)
    assert draws["index"].shape == (2, 4, 1)
    assert draws["x"].shape == (2, 4, 3, P)
    trace = poutine.trace(elbo.model).get_trace(num_groups=14_000, num_views=1)
    counts = trace.nodes["index"]["value"].flatten().bincount(minlength=M)
    torch.testing.assert_close(counts / 14_000, torch.full((M,), 1 / M), rtol=0, atol=0.02)
    given = poutine.trace(elbo.model).get_trace(num_groups=3, index=torch.tensor([5, 5, 1]))
    assert "index" not in given.nodes


def test_check_accepts_the_story_and_the_pair_observes_the_index(elbo):
    check_story(elbo.model, D, 2)
    assert elbo.observes == {"index"}


def test_items_must_exist(elbo):
    x = torch.randn(2, 2, P, dtype=torch.float64)
    for wrong in (M, -1):
        with pytest.raises(InputError, match=f"give whole numbers from 0 to {M - 1}"):
            elbo(x, index=torch.tensor([0, wrong]))
    with pyro.validation_enabled(False):
        elbo(x, index=torch.tensor([0, M - 1]))


@pytest.mark.parametrize("arguments", [{"num_items": 0}, {"num_items": 3, "style_scale": -1.0}])
def test_degenerate_arguments_are_refused(arguments):
    with pytest.raises(InputError, match="give"):
        Instance(Normal(MLP([4]).decoder((P,), D)), D, **arguments)
