"""The consistent guide: its penalty by brute force, and what becomes of it in Pyro's ELBO and in the ledger."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Consistent
from pyro_simvae.guides.consistent import inconsistency
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP

P, D = 5, 3


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_it_is_the_divergence_over_all_ordered_pairs(num_views):
    torch.manual_seed(0)
    loc, scale = torch.randn(4, num_views, D).double(), torch.rand(4, num_views, D).double() + 0.1
    expected = torch.zeros(4).double()
    for j in range(num_views):
        for k in range(num_views):
            q = [TorchNormal(loc[:, view], scale[:, view]) for view in (j, k)]
            expected += kl_divergence(*q).sum(-1) / num_views
    torch.testing.assert_close(inconsistency(loc, scale), expected)
    torch.testing.assert_close(inconsistency(loc[:, :1].expand_as(loc), scale[:, :1].expand_as(loc)), 0 * expected)


@pytest.mark.parametrize("story", [VAE, SimVAE])
def test_ledger_and_trace_elbo_subtract_it_and_the_elbo_stays_itself(story):
    torch.manual_seed(0)
    model = story(Normal(MLP([4]).decoder((P,), D)), D)
    guide = Consistent(model, MLP([4]).encoder((P,), D), weight=3.0)
    elbo, x = LedgerELBO(model, guide).double(), torch.randn(4, 2, P, dtype=torch.float64)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with pyro.settings.context(module_local_params=True):
        reference = -Trace_ELBO().differentiable_loss(model, guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.manual_seed(1)
    plain = LedgerELBO(model, guide.mean_field)(x)
    torch.testing.assert_close(ledger.elbo, plain.elbo)
    loc, scale = guide.mean_field.encoder(x)
    penalty = 3 * inconsistency(loc, scale).sum()
    torch.testing.assert_close(ledger.terms["penalty/consistency"], penalty)
    torch.testing.assert_close(plain.objective - ledger.objective, penalty)
    parameters = list(guide.mean_field.encoder.parameters())
    for found, expected in zip(
        torch.autograd.grad(ledger.objective, parameters), torch.autograd.grad(reference, parameters), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_several_particles_share_the_penalty():
    torch.manual_seed(0)
    model = VAE(Normal(MLP([4]).decoder((P,), D)), D)
    guide = Consistent(model, MLP([4]).encoder((P,), D), weight=3.0)
    elbo, x = LedgerELBO(model, guide, 5).double(), torch.randn(4, 2, P, dtype=torch.float64)
    penalty = elbo(x).terms["penalty/consistency"]
    torch.testing.assert_close(penalty, 3 * inconsistency(*guide.mean_field.encoder(x)).sum())


def test_fit_by_name(fit_images, tmp_path):
    run = fit_images(model="vae", guide={"class_path": "consistent", "init_args": {"weight": 2.0}})
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "train/penalty/consistency" in header


def test_negative_weight():
    model = VAE(Normal(MLP([4]).decoder((P,), D)), D)
    with pytest.raises(InputError, match="weight of the consistency is -1"):
        Consistent(model, MLP([4]).encoder((P,), D), weight=-1.0)
