"""Several particles: the importance-weighted bound against Pyro's own, and against the evidence in closed form."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import RenyiELBO
from pyro.nn import PyroModule

from pyro_simvae.errors import InputError
from pyro_simvae.guides import Exact, MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, LinearGaussian, Mixture, SimVAE
from pyro_simvae.networks import MLP, Linear

P, D, K = 5, 3, 6


def pair(cls, num_particles=1, **arguments):
    torch.manual_seed(0)
    model = cls(Normal(MLP([4]).decoder((P,), D)), D, **arguments)
    return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D)), num_particles).double()


def test_of_one_group_it_is_pyros_renyi_elbo_in_value_and_gradient():
    # Pyro weighs the batch as a whole, so that the two are the same for one group only.
    elbo, x = pair(SimVAE, K), torch.randn(1, 2, P, dtype=torch.float64)
    parameters = list(elbo.parameters())
    torch.manual_seed(1)
    objective = elbo(x).objective
    gradients = torch.autograd.grad(objective, parameters)
    torch.manual_seed(1)
    renyi = RenyiELBO(alpha=0, num_particles=K, max_plate_nesting=2, vectorize_particles=True)
    with pyro.settings.context(module_local_params=True):
        loss = renyi.loss_and_grads(elbo.model, elbo.guide, x)
    assert -loss == pytest.approx(objective.item(), rel=1e-12)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(-parameter.grad, gradient)


@pytest.mark.parametrize("cls", [SimVAE, VAE, Mixture])
def test_every_group_has_its_own_weights(cls):
    elbo, x = pair(cls, K), torch.randn(4, 2, P, dtype=torch.float64)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    weights = elbo.log_weights(x, K)
    assert weights.shape == (K, 4)
    torch.testing.assert_close(ledger.objective, (weights.logsumexp(0) - math.log(K)).sum())
    # The terms are means over particles, so that their sum stays the ELBO.
    torch.testing.assert_close(ledger.elbo, weights.mean(0).sum())
    assert ledger.elbo < ledger.objective


def test_weights_of_one_particle_are_the_elbo():
    elbo, x = pair(SimVAE), torch.randn(4, 2, P, dtype=torch.float64)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    torch.testing.assert_close(elbo.log_weights(x, 1).sum(), ledger.elbo)


def test_the_exact_guide_gives_the_evidence_with_every_particle():
    torch.manual_seed(0)
    model = LinearGaussian(Normal(Linear().decoder((P,), D), scale=0.5), D)
    elbo, x = LedgerELBO(model, Exact(model)).double(), torch.randn(4, 3, P, dtype=torch.float64)
    torch.testing.assert_close(elbo.log_weights(x, K), model.evidence(x).expand(K, 4))


def test_the_bound_rises_to_the_evidence():
    torch.manual_seed(0)
    model = LinearGaussian(Normal(Linear().decoder((P,), 1), scale=2.0), 1)
    elbo = LedgerELBO(model, MeanField(model, Linear().encoder((P,), 1))).double()
    elbo.guide.encoder.head.bias.data += torch.tensor([0.0, 2.0])  # as wide as the prior, so that no tail is missed
    x = model(num_groups=3, num_views=2).detach()
    weights = elbo.log_weights(x, 20_000).detach()
    bounds = [weights.view(-1, k, 3).logsumexp(1).sub(math.log(k)).mean(0) for k in (1, 10, 20_000)]
    assert (bounds[0] < bounds[1]).all()
    assert (bounds[1] < bounds[2]).all()
    torch.testing.assert_close(bounds[2], model.evidence(x).detach(), rtol=0, atol=0.05)


def test_weights_of_the_objective_are_those_of_each_group():
    elbo, x = pair(SimVAE, K), torch.randn(4, 2, P, dtype=torch.float64)
    torch.manual_seed(1)
    plain = elbo(x)
    torch.manual_seed(1)
    doubled = elbo(x, likelihood_weight=2.0, kl_weight=2.0)
    torch.testing.assert_close(doubled.elbo, plain.elbo)
    assert doubled.objective > 2 * plain.objective  # a mean of squares is above the square of the mean


def test_a_site_that_all_groups_share_has_no_weight_of_its_own():
    class Shared(PyroModule):
        def __init__(self, likelihood, latent_dim):
            super().__init__()
            self.likelihood = likelihood

        def forward(self, x=None, num_groups=1, num_views=2):
            offset = pyro.sample("offset", dist.Normal(torch.zeros(D).double(), 1.0).to_event(1))
            num_groups, num_views = (num_groups, num_views) if x is None else x.shape[:2]
            with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(offset, 1.0).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)

    torch.manual_seed(0)
    model = Shared(Normal(MLP([4]).decoder((P,), D)), D)
    elbo = LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D)), K).double()
    with pytest.raises(InputError, match="site 'offset' is shared by all groups"):
        elbo(torch.randn(4, 2, P, dtype=torch.float64))


def test_a_limit_has_one_particle(fit_images):
    with pytest.raises(InputError, match="a limit's guide is a point"):
        fit_images(limit="simclr", training={"num_particles": 2})


def test_fit_of_the_importance_weighted_bound(fit_images, tmp_path):
    fit_images(model="vae", training={"num_particles": 3, "epochs": 1})
    assert (tmp_path / "run" / "weights.safetensors").is_file()
