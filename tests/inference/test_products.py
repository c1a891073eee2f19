"""Products by oneDNN are those of torch to rounding, and only large ones in float32 are replaced."""

import copy

import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import gradient, products
from pyro_simvae.inference.capture import Captured, inputs_of
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.gradient import Gradient
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="needs a torch with oneDNN",
)
N, J, D, EVENT = 32, 2, 5, (1, 28, 28)


def pair(limit=None, hidden=(512, 256)):
    torch.manual_seed(0)
    network = MLP(hidden)
    story = SimVAE(Bernoulli(network.decoder(EVENT, D)), D)
    guide = MeanField(story, network.encoder(EVENT, D))
    return LedgerELBO(*(limit(story, guide) if limit else (story, guide)))


def views(dtype=torch.float32):
    return (torch.rand(N, J, *EVENT, generator=torch.Generator().manual_seed(1)) > 0.5).to(dtype)


def targets(captured):
    return [node.target for node in captured.graph.graph.nodes if node.op == "call_function"]


def replayed(elbo, captured, x):
    torch.manual_seed(5)
    elbo.zero_grad()
    ledger = captured(inputs_of(x, {}))
    return ledger, [parameter.grad for parameter in elbo.parameters()]


@needs_onednn
def test_same_numbers_to_rounding():
    elbo, x = pair(), views()
    captured = Captured(elbo, inputs_of(x, {}))
    expected = replayed(elbo, captured, x)
    captured.use_onednn()
    found = replayed(elbo, captured, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    again = replayed(elbo, captured, x)
    torch.testing.assert_close(again, found, rtol=0, atol=0)
    # 64 views, 784-512-256-10 and 5-256-512-784: both layers of 512 forwards; backwards the gradients of their
    # weights and, but for the first, which has none, of their inputs.
    assert targets(captured).count(torch.ops.mkldnn._linear_pointwise.default) == 4 + 4 + 3
    assert all(parameter.grad.stride() == parameter.stride() for parameter in elbo.parameters())


@needs_onednn
@pytest.mark.parametrize(("hidden", "dtype"), [((32,), torch.float32), ((512,), torch.float64)])
def test_what_is_left_to_torch(hidden, dtype):
    elbo = pair(hidden=hidden).to(dtype)
    captured = Captured(elbo, inputs_of(views(dtype), {}))
    before = targets(captured)
    captured.use_onednn()
    assert targets(captured) == before


@needs_onednn
@pytest.mark.parametrize("limit", [None, limits.byol(hidden=64, momentum=0.9)])
def test_steps_on_such_a_processor(monkeypatch, limit):
    """The first step, which is compared and then made anew, moves what the pair keeps once."""
    monkeypatch.setattr(gradient, "onednn_is_faster", lambda: True)
    elbos = {"eager": pair(limit)}
    elbos["graph"] = copy.deepcopy(elbos["eager"])
    found = {}
    for engine, elbo in elbos.items():
        step = Gradient(elbo, 1.0, engine, lambda: torch.autocast("cpu", enabled=False), lambda loss: loss.backward())
        torch.manual_seed(3)
        ledgers = []
        for _ in range(2):
            elbo.zero_grad()
            ledgers.append(step(views()).objective)
        found[engine] = ledgers, [p.grad for p in elbo.parameters()], dict(elbo.state_dict())
    assert torch.ops.mkldnn._linear_pointwise.default in targets(step.captured)
    torch.testing.assert_close(found["graph"], found["eager"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_only_where_it_is_known_to_be_faster(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert not products.onednn_is_faster.__wrapped__()
