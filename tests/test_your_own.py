"""The parts in docs/your_own.md are fitted as they are written there."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from pyro_simvae import cli

TEXT = (Path(__file__).parents[1] / "docs" / "your_own.md").read_text(encoding="utf-8")
BLOCKS = {re.findall(r"class (\w+)", block)[0]: block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)}
PARTS = {
    "views": ("Blurred", {"size": 6, "sigma": 0.5}),
    "network": ("Small", {"width": 8}),
    "data": ("Stripes", {"count": 200}),
    "limit": ("Uniform", {"sharpness": 4.0}),
}


def test_all_of_them_are_tried():
    assert BLOCKS.keys() == {name for name, _ in PARTS.values()}


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_is_fitted_by_its_file(kind, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, options = PARTS[kind]
    Path("part.py").write_text(BLOCKS[name], encoding="utf-8")
    words = ["--latent_dim", "3", "--training.num_groups", "8", "--training.epochs", "2", f"--{kind}", "part.py"]
    words += [word for key, value in options.items() for word in (f"--{kind}.{key}", str(value))]
    if kind != "data":
        words += ["--data", f"arrays:{images}"]
    if kind != "network":
        words += ["--network", "mlp", "--network.hidden", "[8]"]
    assert cli.main(["fit", *words, "--out", "run"]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config[kind]["init_args"].items() >= options.items()
    assert Path(f"run/{kind}.py").read_text(encoding="utf-8") == BLOCKS[name]
    Path("part.py").unlink()
    assert cli.main(["encode", "run"]) == 0
    assert np.isfinite(np.load("run/encoded/test.npz")["z"]).all()


@pytest.mark.parametrize("t", [0.5, 1.0])
def test_what_a_limit_half_way_says(t, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("uniform.py").write_text(BLOCKS["Uniform"], encoding="utf-8")
    words = ["--data", f"arrays:{images}", "--network", "mlp", "--network.hidden", "[8]", "--training.num_groups", "8"]
    assert cli.main(["fit", *words, "--limit", "uniform.py", "--limit.t", str(t), "--training.epochs", "1"]) == 0
    assert ("objective train" in capsys.readouterr().out) == (t < 1)
