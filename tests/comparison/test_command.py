"""The command: one call from a config to tables and report, which goes on where it was killed."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pyro_simvae import cli
from pyro_simvae.comparison import grid as grids
from pyro_simvae.comparison import slots
from pyro_simvae.comparison.command import compare
from pyro_simvae.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs" / "compare"


@pytest.fixture
def config(images, tmp_path):
    """write(**entries) -> path of a config of small fits."""

    def write(**entries):
        base = {
            "network": {"class_path": "mlp", "init_args": {"hidden": [8]}},
            "latent_dim": 3,
            "training": {"epochs": 1, "num_groups": 8},
        }
        plain = {"base": base, "data": {"small": f"arrays:{images}"}, "metrics": ["probes"], "seeds": [0]}
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(plain | entries, sort_keys=False))
        return path

    return write


@pytest.fixture
def inline(monkeypatch):
    """Runs the cells in this process."""
    monkeypatch.setattr(slots, "run", lambda work, items, places: ((item, work(item)) for item in items))


def test_killed_in_the_middle_it_goes_on_where_it_was(config, tmp_path, inline, capsys):
    methods = {"first": {"model": "vae"}, "second": {"model": "vae", "training": {"epochs": 30}}}
    path, out = config(methods=methods), tmp_path / "out"
    code = f"from pyro_simvae.comparison.command import compare\ncompare({str(path)!r}, {str(out)!r}, jobs=1)"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL)
    first, second = (out / "runs" / "small" / name / "seed-0" for name in ("first", "second"))
    while not (second / "metrics.csv").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(0.5)  # the worker notices
    assert not (second / "cell.json").exists()
    weights = first / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert compare(str(path), str(out)) == out
    assert weights.stat().st_mtime_ns == before
    assert "going on with" in second.with_name("seed-0.log").read_text()
    assert "1 of 2 runs are done already" in capsys.readouterr().out
    scores = pd.read_parquet(out / "scores.parquet")
    assert set(scores[scores["metric"] == "knn"]["method"]) == {"first", "second"}
    assert {path.name for path in out.iterdir()} >= {"scores.csv", "table.md", "report.html", "comparison.yaml"}


def test_folder_is_named_after_the_config_by_default(config, tmp_path, inline, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = compare(str(config(methods=["vae"])))
    assert found == Path("comparisons/small")
    assert "| VAE | " in capsys.readouterr().out
    assert grids.read(found / "comparison.yaml").methods.keys() == {"vae"}


def test_failures_are_counted(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slots, "run", lambda work, items, places: ((item, InputError("no: mend")) for item in items))
    compare(str(config(methods=["vae", "simvae"])), str(tmp_path / "out"))
    assert "2 of 2 runs failed; the same command tries them again" in capsys.readouterr().out


def test_nothing_is_written_for_a_config_that_cannot_be_used(config, tmp_path):
    with pytest.raises(InputError, match="unknown method"):
        compare(str(config(methods=["simvea"])), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_of_the_repository_are_grids_of_three_seeds_or_more(path):
    grid = grids.read(path)
    assert grid.reference == "simvae"
    assert len(grid.seeds) >= 3
    assert {"simvae", "untrained"} <= set(grid.methods)
    assert path.stem != "celeba" or "supervised" not in grid.methods  # CelebA has no labels
    assert len(grid.cells()) == len(grid.seeds) * sum(method.fitted for method in grid.methods.values())


def test_from_the_command_line(config, tmp_path, inline, capsys):
    assert cli.main(["compare", str(config(methods=["vae"])), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert "compared: " in capsys.readouterr().out
    assert cli.main(["compare", str(config(methods=["vea"])), "--out", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pyro-simvae: error: unknown method 'vea': did you mean vae")
    assert error.count("\n") == 1
    assert not (tmp_path / "other").exists()
