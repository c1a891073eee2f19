"""On a GPU: a whole step as one CUDA graph has the losses of eager steps, and runs move between devices."""

import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.data import OwnAugmentation, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.paired import views_of
from pyro_simvae.guides import Flow, FullCovariance, MeanField, SphericalMeanField
from pyro_simvae.inference.cuda_graph import CUDAGraph
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import HeavyTails, Hierarchical, Mixture, Relevance, SimVAE, Spherical
from pyro_simvae.networks import MLP, Conv, ResNet18

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
N, EVENT, D = 16, (3, 32, 32), 4


STORIES = {
    "mixture": (Mixture, MeanField, {"num_clusters": 3}),
    "heavy_tails": (HeavyTails, MeanField, {}),
    "hierarchical": (Hierarchical, MeanField, {"num_classes": 3}),
    "relevance": (Relevance, MeanField, {"num_items": 4 * N}),
    "spherical": (Spherical, SphericalMeanField, {}),
    "full_covariance": (SimVAE, FullCovariance, {}),
    "flow": (SimVAE, Flow, {}),
}


def loop(
    folder,
    engine,
    network=None,
    limit=None,
    accelerator="cuda",
    precision="32",
    story=(SimVAE, MeanField, {}),
    augmentation="cifar10",
    **training,
):
    torch.manual_seed(0)
    network = network or MLP((32,))
    kind, guide_kind, options = story
    model = kind(Bernoulli(network.decoder(EVENT, D)), D, **options)
    guide = guide_kind(model, network.encoder(EVENT, D))
    if limit is not None:
        model, guide = limits.LIMITS[limit]()(model, guide)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    images = torch.randint(0, 256, (4 * N, *EVENT), dtype=torch.uint8)
    augmentation = preset(augmentation) if isinstance(augmentation, str) else augmentation
    split, views = MemorySplit(images, torch.arange(4 * N) % 3), views_of(augmentation, EVENT)
    settings = Training(num_groups=N, **training)
    fabric = fabric_of(Hardware(accelerator, precision))
    return SVI(LedgerELBO(model, guide), split, split, views, settings, fabric, folder, engine=engine)


def losses(svi, steps=8):
    torch.manual_seed(1)
    batch = svi.train.images(torch.arange(N)).unsqueeze(1)
    found = []
    for _ in range(steps):
        found.append(svi._step(batch).objective.item())
        svi.step += svi.step < svi.steps_per_epoch - 1
    return torch.tensor(found)


@pytest.mark.parametrize("limit", [None, "simclr", "vicreg", "moco", "byol"])
def test_graph_has_the_losses_of_eager_steps(tmp_path, limit):
    graph, eager = (loop(tmp_path / engine, engine, limit=limit) for engine in ("auto", "eager"))
    torch.testing.assert_close(losses(graph), losses(eager), rtol=1e-3, atol=1e-3)
    assert graph.update.replay is not None
    assert graph.update.replay.graph is not None


@pytest.mark.parametrize("name", STORIES)
def test_stories_and_guides(tmp_path, name):
    fast, eager = (loop(tmp_path / engine, engine, story=STORIES[name]) for engine in ("auto", "eager"))
    torch.testing.assert_close(losses(fast), losses(eager), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("limit", ["logdet", "wmse", "pca"])
def test_what_factorizes_matrices_is_no_cuda_graph(tmp_path, limit):
    fast, eager = (loop(tmp_path / engine, engine, limit=limit) for engine in ("auto", "eager"))
    torch.testing.assert_close(losses(fast), losses(eager), rtol=1e-2, atol=1e-2)
    assert "may wait for the GPU" in fast.update.eager_because
    assert fast.update.gradient.captured is not None


@pytest.mark.parametrize("network", [Conv(), ResNet18()], ids=lambda each: type(each).__name__)
def test_convolutions_in_full_precision_without_views(tmp_path, network):
    graph, eager = (loop(tmp_path / each, each, network, augmentation="none") for each in ("graph", "eager"))
    torch.testing.assert_close(losses(graph, 5), losses(eager, 5), rtol=1e-2, atol=1e-2)


class Flip(OwnAugmentation):
    """Draws with a number that a graph would keep."""

    def forward(self, items):
        return items.flip(-1) if torch.rand(()) < 0.5 else items


def test_views_of_ones_own_stay_outside_of_the_graph(tmp_path):
    fast, eager = (loop(tmp_path / engine, engine, augmentation=Flip()) for engine in ("auto", "eager"))
    torch.testing.assert_close(losses(fast), losses(eager), rtol=1e-3, atol=1e-3)
    assert fast.update.replay is None
    assert fast.update.gradient.captured is not None


def test_schedules_are_followed(tmp_path):
    options = {"kl_warmup": 3.0, "schedule": "cosine", "epochs": 5, "gradient_clip": 10.0}
    graph, eager = (loop(tmp_path / engine, engine, **options) for engine in ("graph", "eager"))
    torch.testing.assert_close(losses(graph), losses(eager), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("engine", ["graph", "compile"])
def test_mixed_precision_of_a_convolutional_network(tmp_path, engine):
    fast, eager = (loop(tmp_path / each, each, ResNet18(), precision="bf16-mixed") for each in (engine, "eager"))
    torch.testing.assert_close(losses(fast), losses(eager), rtol=2e-2, atol=1.0)


def test_what_cannot_be_captured_runs_eagerly(tmp_path):
    svi = loop(tmp_path, "auto", limit="deepcluster")
    assert losses(svi).isfinite().all()
    assert "depends on numbers" in svi.update.gradient.eager_because


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_checkpoints_move_between_devices(tmp_path, first, second):
    before, after = (loop(tmp_path, "auto", accelerator=device) for device in (first, second))
    losses(before)
    before.save("last")
    after.restore("last")
    for name, value in before.elbo.state_dict().items():
        torch.testing.assert_close(after.elbo.state_dict()[name].cpu(), value.cpu())
    assert losses(after).isfinite().all()


def test_a_loss_that_breaks_is_found_at_the_end_of_the_epoch(tmp_path):
    svi = loop(tmp_path, "graph", learning_rate=1e30)
    losses(svi)
    with pytest.raises(Exception, match="not finite at epoch 1, step"):
        svi.save("last")


def test_cuda_graph_replays_with_new_inputs():
    state = torch.zeros((), device="cuda")

    def add(x):
        state.add_(x.sum())
        return state * 1

    graph = CUDAGraph(add)
    totals = [graph([torch.full((2,), float(i), device="cuda")]).item() for i in range(6)]
    assert totals == [0, 2, 6, 12, 20, 30]
