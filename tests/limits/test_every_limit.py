"""What holds for every limit: the knob's ends, an idle decoder, and the symmetries of groups and views."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_simvae import commands
from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.limits import LIMITS

N, J, P, D = 8, 2, 5, 4
ARGUMENTS = {
    "npid": {"num_items": N},
    "softmax": {"num_classes": 3},
    "simsiam": {"hidden": 8},
    "byol": {"hidden": 8},
    "moco": {"queue_size": 16},
    "swav": {"num_prototypes": 6},
    "dino": {"num_prototypes": 6},
    "deepcluster": {"num_prototypes": 3, "memory_size": 8},
    "pca": {"temperature": 1.0},  # its default is the story's own
}


def make(name, **arguments):
    torch.manual_seed(0)
    return LIMITS[name](**(ARGUMENTS.get(name, {}) | arguments))


def observed(limit):
    known = {"labels": torch.arange(N) % 3, "index": torch.arange(N)}
    return {name: known[name] for name in limit.observes}


def limited(pair, name, content_scale=1.0, **arguments):
    """The limit's pair, whether the decoder ran, and views."""
    model, guide = pair(content_scale=content_scale)
    runs = []
    model.likelihood.decoder.register_forward_hook(lambda *_: runs.append(1))
    limit = make(name, **arguments)
    elbo = LedgerELBO(*limit(model, guide)).double()
    return elbo, (model, guide), runs, torch.randn(N, J, P, dtype=torch.float64), observed(limit)


@pytest.mark.parametrize("name", LIMITS)
def test_decoder_is_not_run(pair, name):
    elbo, _, runs, x, extra = limited(pair, name)
    elbo(x, **extra).objective.backward()
    assert not runs


@pytest.mark.parametrize("name", LIMITS)
def test_knob_at_zero_is_the_elbo(pair, name):
    elbo, original, runs, x, extra = limited(pair, name, t=0.0)
    parameters = [p for module in original for p in module.parameters()]
    torch.manual_seed(1)
    found = elbo(x, **extra).objective
    torch.manual_seed(1)
    expected = LedgerELBO(*original)(x).objective
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert runs


@pytest.mark.parametrize("name", LIMITS)
def test_terms_of_the_ledger_are_those_of_the_loss(pair, name):
    elbo, (_, guide), _, x, extra = limited(pair, name, math.inf)
    elbo.eval()
    ledger = elbo(x, **extra)
    limit = copy.deepcopy(elbo.model.limit)
    loc, _ = guide.encoder(x)
    target = None if limit.teacher is None else limit.teacher(x)
    loss = limit.loss(loc, target=target, **extra)
    assert set(ledger.limit) == set(loss)
    torch.testing.assert_close(torch.stack(list(ledger.limit.values())).sum(), loss.total.detach())


def total(name, z, target, extra):
    torch.manual_seed(0)
    return make(name).loss(z, target=target, **extra).total


@pytest.mark.parametrize("name", LIMITS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_order_of_groups_and_views_does_not_matter(name, seed):
    generator = torch.Generator().manual_seed(seed)
    z, target = torch.randn(2, N, 3, D, dtype=torch.float64, generator=generator)
    extra = observed(make(name))
    groups, views = torch.randperm(N, generator=generator), torch.randperm(3, generator=generator)
    moved = {key: value[groups] for key, value in extra.items()}
    expected = total(name, z, target, extra)
    torch.testing.assert_close(total(name, z[groups][:, views], target[groups][:, views], moved), expected)


@pytest.mark.parametrize("name", ["moco", "dino", "deepcluster", "npid", "byol"])
def test_state_is_resumed_bit_for_bit(fit_images, name):
    arguments = {key: value for key, value in ARGUMENTS[name].items() if key != "num_items"}
    limit = {"class_path": name, "init_args": arguments}
    whole = fit_images("whole", {"epochs": 2}, limit=limit)
    fit_images("parts", {"epochs": 1}, limit=limit)
    parts = fit_images("parts", {"epochs": 2}, limit=limit, resume=True)
    ours, theirs = (load_checkpoint(run / "checkpoints" / "last.ckpt")["weights"] for run in (parts, whole))
    assert any(key.startswith("model.limit") for key in ours)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_fit_evaluates_and_logs_the_loss(fit_images):
    run = fit_images(limit="simclr")
    assert "valid/limit/loss" in (run / "metrics.csv").read_text().splitlines()[0]
    assert commands.evaluate(str(run), metrics=["probes"])["scores"]["z"]["label"]["knn"] > 0


@pytest.mark.parametrize(
    ("limit", "options", "message"),
    [
        ("simclrr", {}, "did you mean simclr"),
        ("simclr", {"model": "vae"}, "no site 'content'"),
        ("simclr", {"training": {"num_views": 1}}, "give J >= 2"),
        ("simclr", {"training": {"num_groups": 1}}, "give N >= 2"),
        ({"class_path": "simclr", "init_args": {"temperature": 0.0}}, {}, "temperature is 0"),
        ({"class_path": "simclr", "init_args": {"t": 1.5}}, {}, "t is 1.5"),
        ({"class_path": "simclr", "init_args": {"temprature": 0.1}}, {}, "did you mean temperature"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(fit_images, tmp_path, limit, options, message):
    with pytest.raises(InputError, match=message):
        fit_images(limit=limit, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", LIMITS)
def test_mixed_precision_is_that_of_the_networks_alone(pair, name):
    """At 128 dimensions the log-densities are hundreds of nats, where a step of bfloat16 is one nat."""
    dim = D if name in ("logdet", "pca", "wmse") else 128  # which need more groups than dimensions
    model, guide = (module.float() for module in pair(dim=dim))
    guide.encoder = Known(torch.randn(N, J, dim))
    exact = LedgerELBO(*make(name)(model, guide))
    mixed = copy.deepcopy(exact)
    x, extra = torch.randn(N, J, P), observed(exact.model.limit)

    def run(elbo, enabled):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            objective = elbo(x, **extra).objective
        return objective, torch.autograd.grad(objective, elbo.guide.guide.encoder.loc)[0], dict(elbo.named_buffers())

    torch.testing.assert_close(run(mixed, True), run(exact, False))


class Known(torch.nn.Module):
    """An encoder whose representations are parameters, the same for any views."""

    def __init__(self, loc):
        super().__init__()
        self.loc = torch.nn.Parameter(loc)

    def forward(self, x):
        return self.loc, torch.ones_like(self.loc)
