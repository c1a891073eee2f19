"""A cell: fitted and evaluated once, gone on with from where it stopped, and refused under another config."""

import functools
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pyro_simvae import commands
from pyro_simvae.comparison import cell as cells
from pyro_simvae.comparison.cell import Task, check, is_done, read, run
from pyro_simvae.comparison.grid import parse
from pyro_simvae.errors import InputError

METRICS = ("probes", "health")


@pytest.fixture
def task(images, tmp_path):
    """task(**options): of one small fit, with other options of fit laid over it."""

    def make(metrics=METRICS, representations=("z",), pictures=False, **options):
        base = {
            "network": {"class_path": "mlp", "init_args": {"hidden": [8]}},
            "latent_dim": 3,
            "training": {"epochs": 1, "num_groups": 8, **options.pop("training", {})},
        }
        data = {"small": f"arrays:{images}"}
        (cell,) = parse({"base": base, "data": data, "methods": {"own": {"model": "simvae"} | options}}).cells()
        return Task(cell, cell.folder(tmp_path), metrics, representations, pictures)

    return make


@pytest.fixture
def calls(monkeypatch):
    """The commands that were called, which run as ever."""
    seen = []

    def spy(name):
        command = getattr(commands, name)

        @functools.wraps(command)
        def called(*args, **options):
            seen.append((name, options.get("resume")))
            return command(*args, **options)

        monkeypatch.setattr(commands, name, called)

    spy("fit")
    spy("evaluate")
    return seen


def test_a_cell_is_an_ordinary_run_and_done_once(task, calls):
    first = task(pictures=True)
    record = run(first)
    assert calls == [("fit", False), ("evaluate", None)]
    assert is_done(first)
    assert record == read(first.folder)
    assert record["fit"]["seconds"] > 0
    assert record["versions"]["python"].startswith(f"{sys.version_info.major}.")
    assert record["device"]
    scores = json.loads((first.folder / "evaluation.json").read_text())["scores"]
    assert set(scores) == {"z"}
    assert set(scores["z"]["label"]) >= {"knn", "linear", "mlp"}
    assert "epoch 1/1" in first.log.read_text()
    assert (first.folder / "figures" / "thumbnails.png").is_file()
    run(first)
    assert len(calls) == 2


def test_other_metrics_are_computed_without_another_fit(task, calls):
    run(task())
    other = task(metrics=("probes",))
    assert not is_done(other)
    run(other)
    assert [name for name, _ in calls] == ["fit", "evaluate", "evaluate"]
    assert is_done(other)
    assert not is_done(task(representations=("z", "content")))


def test_a_stopped_fit_goes_on_from_its_checkpoint(task, calls, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commands, "_finish", stop)  # killed after the last epoch
        with pytest.raises(KeyboardInterrupt):
            run(task())
    assert not is_done(task())
    record = run(task())
    assert calls == [("fit", False), ("fit", True), ("evaluate", None)]
    assert record["fit"]["seconds"] is None  # only a part of it was measured


def test_a_folder_without_a_checkpoint_begins_anew(task, calls):
    folder = task().folder
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("cut sho")
    run(task())
    assert calls[0] == ("fit", False)


def test_a_failed_cell_is_not_done(task):
    run(task())
    task().failure.write_text("{}")
    assert not is_done(task())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"latent_dim": 4}, "latent_dim"),
        ({"training": {"epochs": 2, "kl_weight": 3.0}}, "training.epochs, training.kl_weight"),
        ({"model": {"class_path": "simvae", "init_args": {"style_scale": 0.2}}}, "model.init_args.style_scale"),
    ],
)
def test_another_config_is_refused_by_the_names_of_what_differs(task, options, named):
    started = task()
    check(started)  # nothing is there yet
    run_folder(started)
    check(started)
    with pytest.raises(InputError, match=f"was begun with another {named}: delete that folder"):
        check(task(**options))


def test_other_hardware_is_no_difference(task):
    run_folder(task())
    check(task(hardware={"accelerator": "cpu"}))


def test_a_users_file_may_move_but_not_change(task, tmp_path):
    story = tmp_path / "story.py"
    story.write_text("from pyro_simvae.models import SimVAE\n\nclass Story(SimVAE):\n    pass\n")
    started = task(model=f"{story}:Story")
    run_folder(started)
    check(started)
    moved = tmp_path / "moved.py"
    moved.write_bytes(story.read_bytes())
    check(task(model=f"{moved}:Story"))
    moved.write_text(story.read_text() + "# edited\n")
    with pytest.raises(InputError, match=r"another model \(.*moved.py has changed\)"):
        check(task(model=f"{moved}:Story"))


def test_peak_of_memory_is_that_since_the_last_reset():
    before = cells.peak_memory()
    if before is None:
        pytest.skip("this system does not tell")
    block = bytearray(200 * 2**20)
    assert cells.peak_memory() > before + 100 * 2**20
    del block
    cells._reset_peak()
    assert cells.peak_memory() < before + 100 * 2**20


def test_systems_without_proc_tell_no_peak(monkeypatch):
    monkeypatch.setattr(cells, "Path", lambda _: SimpleNamespace(is_file=lambda: False))
    assert cells.peak_memory() is None


def test_device_on_the_cpu_has_a_name(task):
    config = task().cell.config
    assert cells.device(replace(config, hardware=replace(config.hardware, accelerator="cpu")))


def run_folder(task):
    """What a fit leaves before its first step."""
    from pyro_simvae.experiment import create_run

    create_run(task.folder, task.cell.config)
