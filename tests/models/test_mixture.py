"""The mixture story: enumeration in Pyro and in the ledger, exact responsibilities, brute force."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceEnum_ELBO
from pyro.nn import PyroModule
from torch.distributions import Normal as Gaussian

from pyro_simvae import cli
from pyro_simvae.checks import plate_sizes
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Mixture
from pyro_simvae.networks import MLP
from pyro_simvae.sites import check_story

P, D, K = 5, 3, 4


def pair(cls=Mixture, style_scale=0.4):
    torch.manual_seed(0)
    model = cls(Normal(MLP([4]).decoder((P,), D), learn_scale=True), D, num_clusters=K, style_scale=style_scale)
    with torch.no_grad():
        model.logits.copy_(torch.randn(K))
    return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))).double()


def views(num_groups, num_views):
    return torch.randn(num_groups, num_views, P, dtype=torch.float64)


def brute_force(model, z):
    """log p(k, z_1..J), group by group and cluster by cluster, `(N, K)`."""
    log_weights = model.logits.log_softmax(0)
    rows = [
        torch.stack([
            log_weights[k] + sum(Gaussian(model.locs[k], model.style_scale).log_prob(view).sum() for view in group)
            for k in range(K)
        ])
        for group in z
    ]  # fmt: skip
    return torch.stack(rows)


@pytest.mark.parametrize("num_views", [1, 2, 4])
def test_responsibilities_and_evidence_are_bayes_rule(num_views):
    model, z = pair().model, torch.randn(6, num_views, D, dtype=torch.float64)
    joint = brute_force(model, z)
    torch.testing.assert_close(model.evidence(z), joint.exp().sum(-1).log())
    torch.testing.assert_close(model.responsibilities(z), joint.exp() / joint.exp().sum(-1, keepdim=True))


def test_far_latents_keep_finite_responsibilities():
    found = pair(style_scale=1e-3).model.responsibilities(torch.full((2, 2, D), 50.0, dtype=torch.float64))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, dtype=torch.float64))


def gradients(value, elbo):
    return torch.autograd.grad(value, list(elbo.parameters()))


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_ledger_sums_clusters_out_as_pyro_does(num_views):
    elbo, x = pair(), views(6, num_views)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with local_params(elbo):
        reference = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(gradients(ledger.objective, elbo), gradients(reference, elbo))
    assert set(ledger.terms) == {"log_p/z", "log_p/x", "log_q/z"}
    total = ledger.terms["log_p/z"] + ledger.terms["log_p/x"] - ledger.terms["log_q/z"]
    torch.testing.assert_close(ledger.elbo, total)


@pytest.mark.parametrize("num_views", [1, 3])
def test_latents_have_the_group_evidence(num_views):
    elbo, x = pair(), views(6, num_views)
    torch.manual_seed(1)
    term = elbo(x).terms["log_p/z"]
    torch.manual_seed(1)
    with local_params(elbo):
        z = poutine.trace(elbo.guide).get_trace(x).nodes["z"]["value"]
    torch.testing.assert_close(term, brute_force(elbo.model, z).logsumexp(-1).sum().detach())


def test_weight_inside_a_story_stays_outside_the_sum():
    class Weighted(Mixture):
        def forward(self, *args, **kwargs):
            with poutine.scale(scale=7.0):
                return super().forward(*args, **kwargs)

    ledgers, x = [], views(4, 2)
    for cls in (Mixture, Weighted):
        elbo = pair(cls)
        torch.manual_seed(1)
        ledgers.append(elbo(x))
    torch.testing.assert_close(ledgers[0].elbo, ledgers[1].elbo)
    log_q = ledgers[0].terms["log_q/z"]
    torch.testing.assert_close(ledgers[1].objective, 7 * (ledgers[0].elbo + log_q) - log_q)


def test_two_latents_of_one_cluster_share_its_density():
    class Sized(Mixture):
        def latent(self, content):
            size = pyro.sample("size", dist.Normal(content[..., 0], 1.0))
            return dist.Normal(content + size.unsqueeze(-1), self.style_scale).to_event(1)

    class Guide(PyroModule):
        def forward(self, x):
            with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("size", dist.Normal(x[..., 0], 0.1))
                pyro.sample("z", dist.Normal(x[..., :D], 0.1).to_event(1))

    elbo, x = LedgerELBO(pair(Sized).model, Guide()), views(4, 2)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with local_params(elbo):
        reference = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)


def test_what_a_story_records_does_not_count():
    class Recorded(Mixture):
        def latent(self, content):
            pyro.deterministic("center", content, event_dim=1)
            return super().latent(content)

    ledgers, x = [], views(4, 2)
    for cls in (Mixture, Recorded):
        elbo = pair(cls)
        torch.manual_seed(1)
        ledgers.append(elbo(x))
    torch.testing.assert_close(ledgers[0].objective, ledgers[1].objective)


class PerView(Mixture):
    def forward(self, x=None, num_groups=1, num_views=2):
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
            cluster = pyro.sample("cluster", self.cluster(), infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.latent(self.locs[cluster]))
            return pyro.sample("x", self.likelihood(z), obs=x)


class Direct(Mixture):
    def forward(self, x=None, num_groups=1, num_views=2):
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            cluster = pyro.sample("cluster", self.cluster(), infer={"enumerate": "parallel"})
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(self.locs[cluster]))
                return pyro.sample("x", self.likelihood(z + self.locs[cluster]), obs=x)


@pytest.mark.parametrize("story", [PerView, Direct])
def test_other_discrete_sites_are_left_to_pyro(story):
    model = story(Normal(MLP([4]).decoder((P,), D)), D, num_clusters=K)
    elbo = LedgerELBO(model, pair().guide).double()
    with pytest.raises(InputError, match="'cluster' can be summed out only if"):
        elbo(views(3, 2))


def test_trains_in_plain_pyro():
    elbo, x = pair(), views(8, 2)
    pyro.clear_param_store()
    svi = SVI(elbo.model, elbo.guide, pyro.optim.Adam({"lr": 1e-2}), TraceEnum_ELBO(max_plate_nesting=2))
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    pyro.clear_param_store()


def test_prior_draws_have_the_mixtures_moments():
    elbo = pair()
    draws = Predictive(elbo.model, num_samples=3)(num_groups=4, num_views=5)
    assert draws["cluster"].shape == (3, 4, 1)
    assert draws["z"].shape == (3, 4, 5, D)
    assert draws["x"].shape == (3, 4, 5, P)
    trace = poutine.trace(elbo.model).get_trace(num_groups=40_000, num_views=1)
    mean = elbo.model.logits.softmax(0) @ elbo.model.locs
    torch.testing.assert_close(trace.nodes["z"]["value"].mean((0, 1)), mean, rtol=0, atol=0.05)


def test_check_accepts_the_story():
    check_story(pair().model, D, 2)


def test_fits_from_the_command_line(images, tmp_path):
    run = tmp_path / "run"
    options = "--network mlp --network.hidden [8] --latent_dim 3 --training.epochs 2 --training.num_groups 8"
    options += " --model mixture --model.num_clusters 3"
    assert cli.main(["fit", "--data", f"arrays:{images}", *options.split(), "--out", str(run)]) == 0
    assert cli.main(["sample", str(run), "--num_groups", "2", "--num_views", "3"]) == 0
    draws = np.load(run / "samples" / "seed-0-2x3.npz")
    assert draws["cluster"].shape == (2, 1)


@pytest.mark.parametrize("arguments", [{"num_clusters": 1}, {"style_scale": 0.0}, {"style_scale": math.inf}])
def test_degenerate_mixtures_are_refused(arguments):
    with pytest.raises(InputError, match="give"):
        Mixture(Normal(MLP([4]).decoder((P,), D)), D, **arguments)
