"""A step asks its device for no number and brings it nothing from the host: on a GPU, it waits for nothing.

The device here is torch's "meta", where tensors have shapes and no numbers: to ask for one is an error, and what mixes
its tensors with the host's is found by looking at every operation.
"""

from contextlib import nullcontext

import pyro
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_simvae import limits
from pyro_simvae.data import Views, preset
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.gradient import Gradient
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import Mixture, SimVAE
from pyro_simvae.networks import MLP, Conv, ResNet18

N, J, D = 16, 2, 4
EVENT = (3, 32, 32)
ARGUMENTS = {"npid": {"num_items": N}, "softmax": {"num_classes": 3}}


class Crossings(TorchDispatchMode):
    """Operations on tensors of both the device and the host."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.found.add(str(function))
        return out


def pair(network=None, limit=None, model=SimVAE, **options):
    network = network or MLP((8,))
    story = model(Bernoulli(network.decoder(EVENT, D)), D, **options)
    guide = MeanField(story, network.encoder(EVENT, D))
    if limit is not None:
        story, guide = limits.LIMITS[limit](**ARGUMENTS.get(limit, {}))(story, guide)
    return LedgerELBO(story, guide)


def step(elbo, views="cifar10"):
    """Views, program and gradient on the device. Returns the ledger and what came from the host or went to it."""
    elbo.to("meta")
    augmentation = Views(preset(views), EVENT).to("meta")
    images = torch.zeros(N, 1, *EVENT, dtype=torch.uint8, device="meta")
    uniforms = augmentation.draw(N, J).to("meta")
    observed = {name: torch.zeros(N, dtype=torch.int64, device="meta") for name in elbo.observes}
    gradient = Gradient(elbo, 1.0, "eager", nullcontext, lambda loss: loss.backward())
    with Crossings() as crossings, pyro.validation_enabled(False):
        x, _ = augmentation.augment(images, uniforms, J)
        ledger = gradient(x, torch.ones((), device="meta"), observed)
    return ledger, crossings.found


@pytest.fixture(autouse=True)
def autocast_of_the_device(monkeypatch):
    """Which "meta" does not have."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


@pytest.mark.parametrize("network", [MLP((8,)), Conv(), ResNet18()], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("views", ["none", "cifar10"])
def test_networks_and_views(network, views):
    elbo = pair(network)
    ledger, crossed = step(elbo, views)
    assert ledger.objective.device.type == "meta"
    assert all(parameter.grad is not None for parameter in elbo.parameters())
    assert crossed == set()


@pytest.mark.parametrize(
    "options",
    [{"content_scale": float("inf")}, {"learn_style_scale": "dimension"}, {"model": Mixture, "num_clusters": 3}],
)
def test_stories(options):
    assert step(pair(**options))[1] == set()


@pytest.mark.parametrize("limit", sorted(limits.LIMITS.keys() - {"deepcluster"}))
def test_limits(limit):
    assert step(pair(limit=limit))[1] == set()


def test_asking_is_seen():  # k-means runs when a memory is full
    with pytest.raises(RuntimeError, match="meta"):
        step(pair(limit="deepcluster"))


def test_bringing_is_seen():
    elbo = pair()
    elbo.guide.register_forward_pre_hook(lambda _, inputs: (inputs[0] + torch.arange(32.0).to("meta"),))
    assert step(elbo)[1] == {"aten._to_copy.default"}
