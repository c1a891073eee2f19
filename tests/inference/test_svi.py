"""The loop: resuming is exact, interrupts leave a run to go on with, and a loss that breaks stops it."""

import csv
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file

from pyro_simvae import experiment
from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.errors import InputError
from pyro_simvae.figures import gallery
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import rng, svi
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.settings import Training
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes longer than these fits, and has its own tests."""
    monkeypatch.setattr(gallery, "fit_figures", lambda *_: [])


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the loop catches it."""


def kill_at(monkeypatch, step_number, how):
    step, count = svi.SVI._step, iter(range(10**6))

    def killed(self, x, *observed):
        if next(count) == step_number:
            how()
        return step(self, x, *observed)

    monkeypatch.setattr(svi.SVI, "_step", killed)


def die():
    raise Killed


def outputs(folder):
    return (folder / "metrics.csv").read_bytes(), load_file(folder / "weights.safetensors")


def assert_same_run(first, second):
    (metrics, weights), (other_metrics, other_weights) = outputs(first), outputs(second)
    assert metrics == other_metrics
    assert weights.keys() == other_weights.keys()
    for name, value in weights.items():
        assert torch.equal(value, other_weights[name]), name


@pytest.mark.parametrize("step", [0, 3, 4, 5, 14])  # of 3 x 5
@pytest.mark.parametrize("checkpoint_steps", [None, 2])
def test_killed_at_any_step_a_resumed_run_is_the_uninterrupted_one(fit_images, monkeypatch, step, checkpoint_steps):
    training = {"epochs": 3, "checkpoint_steps": checkpoint_steps, "kl_warmup": 1.5, "schedule": "cosine"}
    whole = fit_images("whole", training)
    with monkeypatch.context() as patch:
        kill_at(patch, step, die)
        with pytest.raises(Killed):
            fit_images("killed", training)
    torch.randn(7)  # the caller's generators have moved on meanwhile
    resumed = fit_images("killed", training, resume=True)
    assert_same_run(whole, resumed)


def test_sigkill_of_the_process(fit_images, images, tmp_path):
    whole = fit_images("whole", {"epochs": 3})
    script = """
import os, signal, sys
from pyro_simvae import cli
from pyro_simvae.inference import svi
step, count = svi.SVI._step, iter(range(100))
def killed(self, x, *observed):
    if next(count) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, x, *observed)
svi.SVI._step = killed
cli.main(sys.argv[1:])
"""
    options = f"--data arrays:{images} --network mlp --network.hidden [8] --latent_dim 3 --out {tmp_path / 'killed'}"
    options += " --training.epochs 3 --training.num_groups 8"
    process = subprocess.run([sys.executable, "-c", script, "fit", *options.split()], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert_same_run(whole, fit_images("killed", {"epochs": 3}, resume=True))


def test_interrupt_finishes_the_step_and_leaves_a_run_to_resume(fit_images, monkeypatch):
    whole = fit_images("whole", {"epochs": 3})
    with monkeypatch.context() as patch:
        kill_at(patch, 8, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit_images("stopped", {"epochs": 3})
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    checkpoint = torch.load(whole.parent / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 4)
    assert_same_run(whole, fit_images("stopped", {"epochs": 3}, resume=True))


def test_a_finished_run_can_be_made_longer(fit_images):
    whole, _ = fit_images("whole", {"epochs": 3}), fit_images("part", {"epochs": 1})
    assert_same_run(whole, fit_images("part", {"epochs": 3}, resume=True))


def test_fit_leaves_the_callers_generators_alone(fit_images):
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    fit_images()
    assert torch.equal(torch.randn(2), expected)


def test_seeds_differ_and_repeat(fit_images):
    first, again, other = (fit_images(f"run{i}", seed=seed) for i, seed in enumerate([0, 0, 1]))
    assert_same_run(first, again)
    assert outputs(first)[0] != outputs(other)[0]


def test_ledger_of_metrics_adds_up(fit_images):
    rows = list(csv.DictReader((fit_images() / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        for split in ("train", "valid"):
            terms = {name: float(row[f"{split}/{name}"]) for name in ("log_p/x", "log_p/z", "log_p/content")}
            entropy = -sum(float(row[f"{split}/log_q/{name}"]) for name in ("z", "content"))
            assert sum(terms.values()) + entropy == pytest.approx(float(row[f"{split}/elbo"]), rel=1e-4)
            assert float(row[f"{split}/objective"]) == pytest.approx(float(row[f"{split}/elbo"]), rel=1e-4)


def test_kl_warmup_rises_to_the_kl_weight(fit_images):
    folder = fit_images(training={"epochs": 4, "kl_warmup": 2.0, "kl_weight": 3.0, "likelihood_weight": 2.0})
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(row["kl_weight"]) for row in rows] == [1.5, 3.0, 3.0, 3.0]
    last = {name.removeprefix("valid/"): float(value) for name, value in rows[-1].items()}
    latents = last["elbo"] - last["log_p/x"]
    assert last["objective"] == pytest.approx(2 * last["log_p/x"] + 3 * latents, rel=1e-4)


def test_fit_improves_and_patience_stops(fit_images):
    rows = list(csv.DictReader((fit_images("a", {"epochs": 30, "learning_rate": 1e-2}) / "metrics.csv").open()))
    assert float(rows[-1]["valid/elbo"]) > float(rows[0]["valid/elbo"]) + 5
    folder = fit_images("b", {"epochs": 60, "learning_rate": 0.5, "patience": 2, "gradient_clip": 1.0})
    stale = list(csv.DictReader((folder / "metrics.csv").open()))
    scores = [float(row["valid/objective"]) for row in stale]
    assert len(scores) < 60
    assert max(scores) == scores[-3]


def test_the_learning_rate_rises_and_falls(fit_images, monkeypatch):
    call, rates = svi.Step.__call__, []

    def recorded(self, images, observed, learning_rate, kl_weight):
        rates.append(learning_rate)
        return call(self, images, observed, learning_rate, kl_weight)

    monkeypatch.setattr(svi.Step, "__call__", recorded)
    settings = {"epochs": 5, "learning_rate": 0.01, "learning_rate_warmup": 1.6, "schedule": "cosine"}
    fit_images("a", settings)
    steps = len(rates) // 5  # an epoch
    warm = round(1.6 * steps)
    expected = [0.01 * (i + 1) / warm for i in range(warm)]
    expected += [0.005 * (1 + math.cos(math.pi * (i / steps - 1.6) / 3.4)) for i in range(warm, 5 * steps)]
    assert rates == pytest.approx(expected)
    rates.clear()
    fit_images("b", settings | {"schedule": "constant", "epochs": 2})
    assert rates == pytest.approx(expected[:warm] + [0.01] * (2 * steps - warm))
    rates.clear()
    fit_images("c", settings | {"learning_rate_warmup": 0.0, "epochs": 2})
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * i / steps / 2)) for i in range(2 * steps)])


def test_where_the_objective_moves_the_last_epoch_is_the_best(fit_images, capsys):
    folder = fit_images(limit="byol", training={"patience": 1})
    assert "patience is left aside" in capsys.readouterr().out
    last, best = (load_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("last", "best"))
    assert last["epoch"] == best["epoch"] == 2
    fit_images("patient", {"patience": 1})
    assert "patience is left aside" not in capsys.readouterr().out


def test_non_finite_loss_names_the_site_and_keeps_the_last_checkpoint(fit_images, monkeypatch):
    step, count = svi.SVI._step, iter(range(100))

    def poisoned(self, x, *observed):
        return step(self, x * float("nan") if next(count) == 8 else x, *observed)

    monkeypatch.setattr(svi.SVI, "_step", poisoned)
    with pytest.raises(
        InputError, match=r"log_p/x, .*log_q/z.* not finite at epoch 2, step 4; the last good checkpoint is"
    ):
        fit_images()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -1),
        ("num_particles", 0),
        ("num_views", 0),
        ("num_groups", -1),
        ("learning_rate", -1.0),
        ("kl_warmup", -1),
        ("learning_rate_warmup", -1),
        ("patience", 0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=f"training.{name} is {value}: give"):
        Training(**{name: value})


def test_random_states_come_back():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the state that is looked at)
    state = rng.get_state()
    first = torch.randn(3), np.random.rand(3)  # noqa: NPY002
    with rng.isolated(5):
        torch.randn(3)
    rng.set_state(state)
    assert torch.equal(torch.randn(3), first[0])
    assert (np.random.rand(3) == first[1]).all()  # noqa: NPY002


def test_mixed_precision_keeps_the_latents_in_float32(tmp_path):
    network = MLP([4])
    model = SimVAE(Normal(network.decoder((5,), 3)), 3)
    guide = MeanField(model, network.encoder((5,), 3))
    dtypes = []
    guide.encoder.register_forward_hook(lambda module, inputs, output: dtypes.extend(o.dtype for o in output))
    guide.encoder.features.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    data = MemorySplit(torch.randn(4, 5), None)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    settings = Training(num_groups=4)
    pair, views = LedgerELBO(model, guide), Views(preset("none"), (5,))
    loop = svi.SVI(pair, data, data, views, settings, fabric, tmp_path, engine="eager")
    loop._step(torch.randn(4, 2, 5))
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32]


def test_fewer_groups_than_a_batch(fit_images):
    with pytest.raises(InputError, match=r"lower --training\.num_groups"):
        fit_images(training={"num_groups": 500})


def test_no_epochs_leave_the_initial_weights(fit_images):
    run = fit_images(training={"epochs": 0})
    untrained = experiment.build(experiment.read_run(run)).pair.state_dict()
    weights = load_file(run / "weights.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in untrained.items())
