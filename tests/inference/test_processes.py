"""Two processes with half a batch each are one process with the whole: weights, state and metrics, after several steps.

Draws differ between processes. So here both sides draw alike: noise of groups comes from a stream for each half of the
batch, noise that all groups share from a third.
"""

import contextlib
import copy
import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_simvae import cli, fitted, limits
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import hardware, processes, rng, svi
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.processes import Processes, launched
from pyro_simvae.inference.settings import Training
from pyro_simvae.likelihoods import Normal
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import Relevance, SimVAE
from pyro_simvae.networks import MLP, Encoder

EVENT, D, ITEMS, GROUPS = (5,), 3, 26, 8
STREAMS = 2
ARGUMENTS = {
    "npid": {"num_items": ITEMS},
    "softmax": {"num_classes": 3},
    "moco": {"queue_size": 20},
    "deepcluster": {"num_prototypes": 4, "memory_size": 20},
    "swav": {"num_prototypes": 6},
    "dino": {"num_prototypes": 6},
    "byol": {"hidden": 8, "momentum": 0.9},
}
USUAL = Training(epochs=2, num_groups=GROUPS, learning_rate=0.01, adam_eps=1e-4)
"""The settings of most cases. A large ε keeps Adam from blowing up the rounding of gradients that are nearly zero."""


class Views(nn.Module):
    """Two views in float64, without draws."""

    def forward(self, items, num_views):
        return self.augment(items, self.draw(len(items), num_views), num_views)

    def draw(self, num_groups, num_views):
        return torch.empty(num_groups, 0)

    def augment(self, items, uniforms, num_views):
        return items * torch.tensor([1.0, 0.7], dtype=torch.float64).view(1, 2, 1), {}


def pair(make_model=SimVAE, limit=None, batch_norm=False, num_particles=1, **options):
    torch.manual_seed(0)
    network = MLP([6])
    encoder = network.encoder(EVENT, D)
    if batch_norm:
        features = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU())
        encoder = Encoder(features, 6, EVENT, D)
    model = make_model(Normal(network.decoder(EVENT, D)), D, **options)
    guide = MeanField(model, encoder)
    if limit is not None:
        model, guide = limit(model, guide)
    return LedgerELBO(model, guide, num_particles).double()


def under(name, **options):
    return lambda: pair(limit=limits.LIMITS[name](**ARGUMENTS.get(name, {}), **options), content_scale=float("inf"))


CASES = {
    "finite": (pair, {}),
    "flat": (lambda: pair(content_scale=float("inf")), {}),
    "learned scale": (lambda: pair(learn_style_scale="dimension"), {"kl_warmup": 1.0, "schedule": "cosine"}),
    "particles": (lambda: pair(num_particles=3), {"num_particles": 3}),
    "relevance": (lambda: pair(Relevance, num_items=ITEMS), {}),
    "clip": (pair, {"gradient_clip": 0.5}),
    "hybrid": (under("simclr", t=0.5), {}),
    "batch norm": (lambda: pair(batch_norm=True), {}),
    "teacher with batch norm": (
        lambda: pair(batch_norm=True, limit=limits.byol(hidden=8), content_scale=float("inf")),
        {},
    ),
    # Those of paired data and of linear encoders share the code of the others.
    **{name: (under(name), {}) for name in limits.LIMITS if name not in ("clip", "pca")},
}


def splits():
    generator = torch.Generator().manual_seed(1)
    items = torch.randn(ITEMS + 11, *EVENT, generator=generator, dtype=torch.float64)
    labels = torch.arange(len(items)) % 3
    return [MemorySplit(items[part], labels[part]) for part in (slice(ITEMS), slice(ITEMS, None))]


class Noise(TorchDispatchMode):
    """Draws each half of the groups, at dim -3, from a stream of its own, and what has no groups from a shared one."""

    def __init__(self, halves):
        super().__init__()
        self.halves = halves
        self.seed(0)

    def seed(self, seed):
        self.streams = [torch.Generator().manual_seed(10 * seed + half) for half in self.halves]
        self.shared = torch.Generator().manual_seed(10 * seed + STREAMS)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function is not torch.ops.aten.normal_.default:
            return out
        if out.dim() < 3:
            return out.normal_(generator=self.shared)
        parts = [part.shape for part in out.tensor_split(len(self.halves), dim=-3)]
        drawn = [torch.randn(shape, generator=g, dtype=out.dtype) for shape, g in zip(parts, self.streams, strict=True)]
        return out.copy_(torch.cat(drawn, dim=-3))

    @contextlib.contextmanager
    def isolated(self):
        before = self.streams, self.shared
        self.seed(1)
        yield
        self.streams, self.shared = before


def loop(case, fabric, folder, engine="eager"):
    make, changes = CASES[case]
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    settings = Training(**{**vars(USUAL), **changes})
    return svi.SVI(make(), *splits(), Views(), settings, fabric, folder, engine=engine)


def run(svi_loop):
    progress = SimpleNamespace(eager=lambda reason: None, step=lambda *_: None, epoch=lambda *_: None)
    svi_loop.run(progress)
    return {"rows": svi_loop.rows, "weights": copy.deepcopy(svi_loop.elbo.state_dict())}


def fit(case, fabric, folder, halves):
    svi_loop = loop(case, fabric, folder)
    with Noise(halves) as noise, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rng, "isolated", lambda _: noise.isolated())
        return run(svi_loop)


def replayed(case, fabric, folder):
    """The run step by step as the program says, the run replayed, and why not where it could not be."""
    runs = {engine: loop(case, fabric, folder / engine, engine) for engine in ("eager", "auto")}
    found = {}
    for engine, svi_loop in runs.items():
        with rng.isolated(Processes(fabric).seed(0)):
            found[engine] = run(svi_loop)
    return found | {"why not": runs["auto"].update.eager_because}


# -- what the two processes do ------------------------------------------------------------------------------------


def ending(function):
    """How it ended for this process."""
    try:
        function()
    except (InputError, KeyboardInterrupt, SystemExit) as error:
        return type(error).__name__, str(error)
    return None


def poisoned(fabric, folder):
    """The second process meets a loss that is not finite at its fifth step."""
    svi_loop = loop("finite", fabric, folder)
    step, count = svi_loop._step, iter(range(100))

    def broken(images, *observed):
        bad = next(count) == 4 and fabric.global_rank == 1
        return step(images * float("nan") if bad else images, *observed)

    svi_loop._step = broken
    return ending(lambda: run(svi_loop))


def interrupted(fabric, folder):
    """Ctrl-C reaches the second process only, at its fifth step; the run then goes on from its checkpoint."""
    seed = Processes(fabric).seed(0)
    uninterrupted, svi_loop = (loop("finite", fabric, folder / name) for name in ("whole", "stopped"))
    with rng.isolated(seed):
        whole = run(uninterrupted)
    step, count = svi_loop._step, iter(range(100))

    def pressed(*arguments):
        if next(count) == 4 and fabric.global_rank == 1:
            os.kill(os.getpid(), svi.signal.SIGINT)
        return step(*arguments)

    svi_loop._step = pressed
    with rng.isolated(seed):
        end = ending(lambda: run(svi_loop))
    fabric.barrier()
    resumed = loop("finite", fabric, folder / "stopped")
    with rng.isolated(7):
        resumed.restore("last")
        return {"end": end, "at": (svi_loop.epoch, svi_loop.step), "whole": whole, "resumed": run(resumed)}


def paired(fabric, folder):
    """What a graph of paired data is refused with."""
    svi_loop = loop("finite", fabric, folder, "graph")
    items = torch.zeros(GROUPS, 2, 5, dtype=torch.float64)
    svi_loop.views = lambda images, num_views: (Modalities({"a": items, "b": items}), {})
    with pytest.MonkeyPatch.context() as patch:
        for check in ("check_support", "check_pair"):
            patch.setattr(svi, check, lambda *_: None)
        return ending(svi_loop.check)


def unequal(fabric, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "odd", (pair, {"num_groups": 7}))
        return ending(lambda: loop("odd", fabric, folder))


def one_sided(fabric):
    """An error of the second process only."""

    def inside():
        with Processes(fabric).alike():
            if fabric.global_rank == 1:
                raise InputError("the second process's own mistake")

    return ending(inside)


def work(folder):
    """One process of two; started by `halves` with this file as the program."""
    processes.LARGE = 4  # so that both ways in which gradients travel are gone
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    with launched(fabric) as these:
        folder = Path(these.first(str(folder)))
        found = {case: fit(case, fabric, folder / case, [fabric.global_rank]) for case in CASES}
        found["replayed"] = {case: replayed(case, fabric, folder / "replayed" / case) for case in CASES}
        found["resumed"] = continued(fabric, folder / "from one")
        found["poisoned"] = poisoned(fabric, folder / "poisoned")
        found["interrupted"] = interrupted(fabric, folder / "interrupted")
        found["paired"] = paired(fabric, folder / "paired")
        found["unequal"] = unequal(fabric, folder / "unequal")
        found["one sided"] = one_sided(fabric)
        found["threads"] = torch.get_num_threads()
        torch.save(found, folder / f"{fabric.global_rank}.pt")


def half_way(fabric, folder):
    """A run under a limit, which draws nothing, that stops in its second epoch."""
    svi_loop = loop("simclr", fabric, folder)
    svi_loop.training = Training(**{**vars(USUAL), "epochs": 1})
    run(svi_loop)
    svi_loop.training = USUAL
    order = svi_loop.processes.own(torch.arange(GROUPS), GROUPS)
    batch = next(svi_loop.train.batches(order, GROUPS, 2))
    svi_loop._step(batch.images)
    svi_loop.step = 1
    svi_loop.save("last")


def continued(fabric, folder):
    svi_loop = loop("simclr", fabric, folder)
    svi_loop.restore("last")
    return run(svi_loop)


def alone():
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """What each of two processes finds, and the folder where the first one wrote."""
    folder = tmp_path_factory.mktemp("processes")
    half_way(alone(), folder / "from one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, __file__, str(folder)], check=True, timeout=300, env=environment)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], folder


def assert_close(found, expected):
    assert [row.keys() for row in found["rows"]] == [row.keys() for row in expected["rows"]]
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        assert row == pytest.approx(other, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_halves_make_the_whole(halves, tmp_path, case):
    (first, second), _ = halves
    whole = fit(case, alone(), tmp_path, [0, 1])
    assert len(whole["rows"]) == 2
    assert_close(first[case], whole)
    torch.testing.assert_close(second[case]["weights"], first[case]["weights"], rtol=0, atol=0)
    assert second[case]["rows"] == first[case]["rows"]


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_those_of_the_program(halves, case):
    for found in (half["replayed"][case] for half in halves[0]):
        if case == "deepcluster":
            assert found["why not"].startswith("it depends on numbers")
        else:
            assert found["why not"] is None
        assert found["auto"]["rows"] == found["eager"]["rows"]
        torch.testing.assert_close(found["auto"]["weights"], found["eager"]["weights"], rtol=0, atol=0)


def test_only_the_first_process_writes(halves):
    _, folder = halves
    assert sorted(path.name for path in (folder / "finite").rglob("*.*")) == ["best.ckpt", "last.ckpt", "metrics.csv"]
    rows = list(csv.DictReader((folder / "finite" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_resumed_on_two_processes_what_one_began(halves, tmp_path):
    (first, _), _ = halves
    half_way(alone(), tmp_path)
    assert_close(first["resumed"], continued(alone(), tmp_path))


def test_resumed_on_one_process_what_two_began(halves):
    (first, _), folder = halves
    whole = first["interrupted"]["whole"]
    one = loop("finite", alone(), folder / "interrupted" / "whole")
    one.restore("last")
    assert (one.epoch, one.rows) == (2, whole["rows"])
    torch.testing.assert_close(one.elbo.state_dict(), whole["weights"], rtol=0, atol=0)


def test_shares_of_an_epoch_become_those_of_another_number_of_processes(tmp_path):
    one = loop("finite", alone(), tmp_path)
    names, states = ("objective", "log_p/x"), [rng.get_state(), rng.get_state()]
    one.sums = {names: torch.tensor([2.0, 4.0])}
    one.save("last")
    path = tmp_path / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    state["others"] = [{"rng": states[1], "sums": {names: torch.tensor([4.0, 10.0])}}]
    torch.save(state, path)
    one.restore("last")
    assert one.sums[names].tolist() == [3.0, 7.0]


def test_interrupt_of_one_process_stops_all_after_the_same_step_and_resuming_is_exact(halves):
    (first, second), _ = halves
    assert first["interrupted"]["end"] == ("KeyboardInterrupt", "")
    assert second["interrupted"]["end"] == ("SystemExit", "0")
    for found in (first["interrupted"], second["interrupted"]):
        assert found["at"] == (1, 2)
        assert found["resumed"]["rows"] == found["whole"]["rows"]
        torch.testing.assert_close(found["resumed"]["weights"], found["whole"]["weights"], rtol=0, atol=0)


def test_non_finite_loss_of_one_process_stops_all(halves):
    (first, second), _ = halves
    kind, message = first["poisoned"]
    assert kind == "InputError"
    assert message.startswith("log_p/content, log_p/z, log_p/x, log_q/z, log_q/content not finite at epoch 2, step 2;")
    assert second["poisoned"] == ("SystemExit", "0")


def test_batch_that_processes_cannot_share(halves):
    (first, _), _ = halves
    message = "2 processes cannot share a batch of 7 groups equally: give a multiple, such as --training.num_groups 8"
    assert first["unequal"] == ("InputError", message)


def test_graph_of_paired_data_is_refused(halves):
    message = "paired data on several devices are not captured: use --hardware.engine auto"
    assert [half["paired"] for half in halves[0]] == [("InputError", message)] * 2


def test_error_of_one_process_is_raised_by_the_first(halves):
    (first, second), _ = halves
    assert first["one sided"] == ("InputError", "the second process's own mistake")
    assert second["one sided"] == ("SystemExit", "0")


def test_one_thread_a_process_where_so_asked(halves):
    assert [half["threads"] for half in halves[0]] == [1, 1]


# -- the command --------------------------------------------------------------------------------------------------

needs_two_cores = pytest.mark.skipif(hardware._cores() < 2, reason="two processes need two cores")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
COMMAND = ["-m", "pyro_simvae.cli"]


def command(*words, timeout=120):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=timeout, env=environment)


def options(images, out, devices=2):
    network = ["--network", "mlp", "--network.hidden", "[8]", "--latent_dim", "3"]
    training = ["--training.epochs", "2", "--training.num_groups", "8"]
    return ["fit", "--data", f"arrays:{images}", *network, *training, "--out", str(out), "--devices", str(devices)]


@needs_two_cores
def test_fit_on_two_devices_and_resume_on_one(images, tmp_path):
    run = tmp_path / "run"
    done = command(*COMMAND, *options(images, run))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    headline, *epochs, fitted_line = done.stdout.splitlines()
    assert headline.startswith(f"{run}: 43 training")
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert fitted_line.startswith(f"fitted: {run}")
    config = fitted.open_run(run).config
    assert (config.hardware.devices, config.hardware.num_nodes) == (1, 1)
    assert load_file(run / "weights.safetensors").keys() == fitted.open_run(run).experiment.pair.state_dict().keys()
    more = ["--resume", "true", "--devices", "1", "--training.epochs", "3"]
    assert cli.main(["fit", "--config", str(run / "config.yaml"), *more]) == 0
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]


@needs_two_cores
def test_fit_by_torchrun(images, tmp_path):
    done = command(*TORCHRUN, *COMMAND, *options(images, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    assert (tmp_path / "run" / "weights.safetensors").is_file()


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_what_cannot_be_used_is_said_by_the_first_process_only(monkeypatch, capsys, rank, lines):
    monkeypatch.setenv("RANK", rank)  # as torchrun has it
    assert cli.main(["fit", "--devices", "0"]) == 2
    assert capsys.readouterr().err.count("devices is 0: give 1 or more") == lines


@needs_two_cores
def test_failure_of_another_process_ends_the_fit(images, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
from pyro_simvae import cli
from pyro_simvae.errors import InputError
from pyro_simvae.inference.svi import SVI

step = SVI._step

def broken(self, *arguments):
    if self.processes.rank == 1 and self.step == 3:
        raise InputError("this file is truncated")
    return step(self, *arguments)

SVI._step = broken
if __name__ == "__main__":
    sys.exit(cli.main())
"""
    )
    done = command(str(script), *options(images, tmp_path / "run"))
    assert done.returncode != 0
    assert "error in process 1: this file is truncated" in done.stderr


if __name__ == "__main__":
    work(sys.argv[1])
