"""The runner: what is done stays, one that fails marks its row, and what was killed goes on."""

import io
import json

import pytest
from rich.console import Console

from pyro_simvae.comparison import runner, slots
from pyro_simvae.comparison.grid import parse
from pyro_simvae.errors import InputError
from pyro_simvae.experiment import create_run


@pytest.fixture
def grid(images):
    def make(**entries):
        base = {
            "network": {"class_path": "mlp", "init_args": {"hidden": [8]}},
            "latent_dim": 3,
            "training": {"epochs": 1, "num_groups": 8},
        }
        plain = {
            "base": base,
            "data": {"small": f"arrays:{images}"},
            "methods": ["simvae", "vae"],
            "metrics": ["probes"],
        }
        return parse(plain | entries)

    return make


@pytest.fixture
def here(monkeypatch):
    """Tasks end at once, as if they had run; those of a method "bad" fail. Gives the names of those that were run."""
    ran = []

    def run(work, tasks, places):
        for task in tasks:
            ran.append(str(task.cell))
            if task.cell.method == "bad":
                yield task, InputError("the loss is not finite: lower the rate")
                continue
            create_run(task.folder, task.cell.config)
            record = {"fit": {"seconds": 1.0}, "evaluation": {"seconds": 2.0}, **task.scores}
            (task.folder / "cell.json").write_text(json.dumps(record))
            (task.folder / "evaluation.json").write_text("{}")
            yield task, record

    monkeypatch.setattr(slots, "run", run)
    return ran


def run_all(tasks, out, **options):
    console = Console(file=io.StringIO(), width=200)
    failed = runner.run_all(tasks, out, console, **options)
    return failed, console.file.getvalue()


def test_the_untrained_run_alone_scores_raw_input_and_no_story(grid, tmp_path):
    found = {task.cell.method: task for task in runner.tasks(grid(methods=["vae", "raw"], seeds=[4, 5]), tmp_path)}
    assert "raw" not in found["vae"].representations
    assert "story" in found["vae"].representations
    assert "raw" in found["untrained"].representations
    assert "story" not in found["untrained"].representations
    (plain,) = [t for t in runner.tasks(grid(methods=["untrained"]), tmp_path)]
    assert "raw" not in plain.representations
    pictures = {task.cell.seed: task.pictures for task in runner.tasks(grid(seeds=[4, 5]), tmp_path)}
    assert pictures == {4: True, 5: False}


def test_one_that_fails_marks_its_row_and_the_others_finish(grid, tmp_path, here):
    tasks = runner.tasks(grid(methods={"bad": {"model": "simvae"}, "vae": None}), tmp_path)
    failed, text = run_all(tasks, tmp_path)
    assert failed == 1
    assert "[1/2] small bad seed 0: failed: the loss is not finite" in text
    assert "[2/2] small vae seed 0: fitted in 1.0 s, evaluated in 2.0 s" in text
    failure = json.loads(tasks[0].failure.read_text())
    assert failure == {
        "data": "small",
        "method": "bad",
        "seed": 0,
        "reason": "the loss is not finite: lower the rate",
        "log": "seed-0.log",
    }
    # The next call tries it alone.
    here.clear()
    failed, text = run_all(tasks, tmp_path)
    assert (failed, here) == (1, ["small bad seed 0"])
    assert "1 of 2 runs are done already" in text


def test_a_mended_cell_forgets_its_failure(grid, tmp_path, here):
    tasks = runner.tasks(grid(methods=["vae"]), tmp_path)
    tasks[0].failure.parent.mkdir(parents=True)
    tasks[0].failure.write_text("{}")
    assert run_all(tasks, tmp_path)[0] == 0
    assert not tasks[0].failure.exists()
    here.clear()
    assert run_all(tasks, tmp_path)[0] == 0
    assert here == []


def test_a_killed_worker_and_a_diverging_fit_fail_their_cells_only(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "num_cores", lambda: 1)
    story = tmp_path / "story.py"
    story.write_text(
        "import os, signal\nfrom pyro_simvae.models import SimVAE\n\n"
        "class Story(SimVAE):\n    def __init__(self, likelihood, latent_dim):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    bad = {"model": "simvae", "training": {"learning_rate": 1e30}}
    methods = {"killed": {"model": f"{story}:Story"}, "bad": bad, "vae": None}
    tasks = runner.tasks(grid(methods=methods), tmp_path)
    failed, text = run_all(tasks, tmp_path)
    assert failed == 2
    assert "small killed seed 0: failed: its process ended: killed, perhaps for want of memory" in text
    assert "not finite" in json.loads(tasks[1].failure.read_text())["reason"]
    assert "Traceback" in tasks[1].log.read_text()
    assert runner.is_done(tasks[2])


def test_unexpected_errors_are_named_by_their_kind(grid, tmp_path):
    (task,) = runner.tasks(grid(methods=["vae"]), tmp_path)
    assert runner._fail(task, TypeError("a\nb")) == "TypeError: a b"


def test_nothing_runs_where_a_folder_has_another_config(grid, tmp_path, here):
    run_all(runner.tasks(grid(methods=["vae"]), tmp_path), tmp_path)
    here.clear()
    with pytest.raises(InputError, match=r"vae.seed-0 was begun with another training.kl_weight"):
        run_all(runner.tasks(grid(methods={"simvae": None, "vae": {"training": {"kl_weight": 2}}}), tmp_path), tmp_path)
    assert here == []


def test_two_comparisons_in_one_folder_are_refused(grid, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another comparison is running"):
        run_all(runner.tasks(grid(), tmp_path), tmp_path)
