"""The README's code is the code: its story is models/simvae.py, its first edit is fitted as written, its limit runs."""

import math
import re
from pathlib import Path

import pyro
import torch

from pyro_simvae import cli

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_story_in_full_is_the_file():
    assert (ROOT / "models" / "simvae.py").read_text(encoding="utf-8") in BLOCKS


def test_first_edit_is_fitted_by_path_and_the_run_keeps_it(tmp_path, images, capsys):
    (edit,) = [block for block in BLOCKS if "class HeavyTails" in block]
    path = tmp_path / "heavy_tails.py"
    path.write_text(edit, encoding="utf-8")
    options = [
        "--data",
        f"arrays:{images}",
        "--network",
        "mlp",
        "--network.hidden",
        "[8]",
        "--latent_dim",
        "3",
    ]
    options += ["--training.epochs", "2", "--training.num_groups", "8", "--out", str(tmp_path / "run")]
    options += [
        "--model",
        f"{path}:HeavyTails",
        "--model.degrees_of_freedom",
        "3",
        "--guide.content",
        "amortized",
    ]
    assert cli.main(["fit", *options]) == 0
    path.write_text("raise RuntimeError('edited since')", encoding="utf-8")
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert cli.main(["sample", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.py").read_text(encoding="utf-8") == edit
    assert "Label: test accuracy" in capsys.readouterr().out


def test_limit_in_plain_pyro_takes_a_step():
    plain, limit = (next(block for block in BLOCKS if text in block) for text in ("svi.step(x)", "limits.simclr"))
    names = {}
    pyro.clear_param_store()
    exec(plain, names)
    exec(limit, names)
    assert math.isfinite(names["svi"].step(torch.rand(4, 2, 1, 8, 8)))
    pyro.clear_param_store()
    assert names["loss"].isfinite()


def test_a_run_opens_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(next(block for block in BLOCKS if "pyro_simvae.open_run" in block), names)
    encoding = names["encoding"]
    assert encoding.z.shape == encoding.z_scale.shape == encoding.content.shape == (100, 16)
    assert len(encoding.features) == 100
