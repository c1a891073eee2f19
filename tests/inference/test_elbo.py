"""The ledger against Pyro's own Trace_ELBO."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule, PyroSample

from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP

P, D = 5, 3


def pair(cls, content="auto", **arguments):
    torch.manual_seed(0)
    model = cls(Normal(MLP([4]).decoder((P,), D), learn_scale=True), D, **arguments)
    return LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D), content)).double()


@pytest.mark.parametrize("content", ["conjugate", "amortized", "point"])
def test_value_and_gradient_are_those_of_trace_elbo(content):
    elbo, x = pair(SimVAE, content, learn_style_scale="dimension"), torch.randn(4, 3, P, dtype=torch.float64)
    parameters = list(elbo.parameters())
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with pyro.settings.context(module_local_params=True):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    for found, expected in zip(
        torch.autograd.grad(ledger.objective, parameters, allow_unused=True),
        torch.autograd.grad(reference, parameters, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_terms_add_up_and_weights_leave_the_true_elbo_alone():
    elbo, x = pair(SimVAE), torch.randn(4, 3, P, dtype=torch.float64)
    torch.manual_seed(1)
    plain = elbo(x)
    torch.manual_seed(1)
    weighted = elbo(x, likelihood_weight=3.0, kl_weight=0.25)
    terms = plain.terms
    assert set(terms) == {"log_p/content", "log_p/z", "log_p/x", "log_q/z", "log_q/content"}
    total = sum(value if name.startswith("log_p") else -value for name, value in terms.items())
    torch.testing.assert_close(plain.elbo, total)
    torch.testing.assert_close(plain.objective, total)
    torch.testing.assert_close(weighted.elbo, total)
    latents = total - terms["log_p/x"]
    torch.testing.assert_close(weighted.objective, 3 * terms["log_p/x"] + 0.25 * latents)


def test_weight_inside_a_story_is_taken_out_of_the_true_elbo():
    class Weighted(VAE):
        def forward(self, *args, **kwargs):
            with poutine.scale(scale=7.0):
                return super().forward(*args, **kwargs)

    x = torch.randn(4, 2, P, dtype=torch.float64)
    ledgers = []
    for cls in (VAE, Weighted):
        elbo = pair(cls)
        torch.manual_seed(1)
        ledgers.append(elbo(x))
    torch.testing.assert_close(ledgers[0].elbo, ledgers[1].elbo)
    prior_and_likelihood = ledgers[0].elbo + ledgers[0].terms["log_q/z"]
    torch.testing.assert_close(ledgers[1].objective, 7 * prior_and_likelihood - ledgers[0].terms["log_q/z"])


def test_guide_that_cannot_be_reparametrized_is_refused():
    class Discrete(PyroModule):
        def forward(self, x):
            with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("z", dist.Poisson(torch.ones(D, dtype=x.dtype)).to_event(1))

    elbo = LedgerELBO(pair(VAE).model, Discrete())
    with pytest.raises(InputError, match="'z' is not reparametrized"):
        elbo(torch.randn(4, 2, P, dtype=torch.float64))


def test_sampled_parameters_are_latent_sites():
    class Bayesian(VAE):
        def __init__(self, *args):
            super().__init__(*args)
            self.shift = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self, x=None, **sizes):
            return super().forward(x, **sizes) + self.shift

    model = Bayesian(Normal(MLP([4]).decoder((P,), D)), D)
    elbo, x = LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))), torch.randn(4, 2, P)
    for checks in (True, False):
        with pyro.validation_enabled(checks):
            assert {"log_p/shift", "log_q/shift"} < set(elbo(x).terms)


def test_global_parameter_store_stays_empty_and_two_pairs_do_not_meet():
    pyro.clear_param_store()
    x = torch.randn(4, 2, P, dtype=torch.float64)
    first, second = (pair(SimVAE, style_scale=s, learn_style_scale="shared") for s in (0.4, 2.0))
    for elbo, checks in ((first, False), (second, True), (first, True)):
        with pyro.validation_enabled(checks):
            elbo(x).objective.backward()
    assert not list(pyro.get_param_store().keys())
    assert first.model.style_scale.item() == pytest.approx(0.4)
    assert second.model.style_scale.item() == pytest.approx(2.0)


def test_sites_that_cannot_be_told_apart_or_replayed_are_refused():
    class Twice(MeanField):
        def forward(self, x):
            super().forward(x)
            super().forward(x)

    class Observes(PyroModule):
        def forward(self, x):
            with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1), obs=torch.zeros(*x.shape[:2], D))

    x, story = torch.randn(4, 2, P, dtype=torch.float64), pair(VAE).model
    with pytest.raises(InputError, match="two sample sites are named"):
        LedgerELBO(story, Twice(story, MLP([4]).encoder((P,), D)).double())(x)
    with pytest.raises(InputError, match="sets the story's latent site 'z' by obs"):
        LedgerELBO(story, Observes())(x)


def test_masked_views_drop_out():
    class Masked(VAE):
        def forward(self, x=None, **sizes):
            with poutine.mask(mask=torch.tensor([True, False])):
                return super().forward(x, **sizes)

    elbo, x = pair(Masked), torch.randn(4, 2, P, dtype=torch.float64)
    torch.manual_seed(1)
    ledger = elbo(x)
    torch.manual_seed(1)
    with pyro.settings.context(module_local_params=True):
        reference = -Trace_ELBO().differentiable_loss(elbo.model, elbo.guide, x)
    torch.testing.assert_close(ledger.objective, reference)
    torch.testing.assert_close(ledger.elbo, reference.detach())


def test_deterministic_sites_carry_no_density():
    class Recorded(VAE):
        def forward(self, *args, **kwargs):
            x = super().forward(*args, **kwargs)
            pyro.deterministic("doubled", 2 * x)
            return x

    assert set(pair(Recorded)(torch.randn(4, 2, P, dtype=torch.float64)).terms) == {
        "log_p/z",
        "log_p/x",
        "log_q/z",
    }


class Shared(SimVAE):
    """SimVAE with a latent that all groups share, which counts once in a data set of 100 groups."""

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups = x.shape[0]
        with poutine.scale(scale=num_groups / 100):
            pyro.sample("shared", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        return super().forward(x, num_groups, num_views)


def test_what_all_groups_share_counts_by_its_scale_in_the_ledger_too():
    torch.manual_seed(0)
    model = Shared(Normal(MLP([4]).decoder((P,), D)), D)
    pair, x = LedgerELBO(model, MeanField(model, MLP([4]).encoder((P,), D))).double(), torch.randn(4, 2, P).double()
    torch.manual_seed(1)
    ledger = pair(x)
    torch.testing.assert_close(ledger.elbo, ledger.objective.detach())
    torch.manual_seed(1)
    with pyro.settings.context(module_local_params=True):
        trace = poutine.trace(pair.guide).get_trace(x)
    log_q = trace.nodes["shared"]["fn"].log_prob(trace.nodes["shared"]["value"])
    torch.testing.assert_close(ledger.terms["log_q/shared"], 4 / 100 * log_q.detach())
