"""The command line: what it makes, and one line with status 2 for what it cannot use, with nothing written."""

import errno
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from webdataset import TarWriter

from pyro_simvae import cli
from pyro_simvae.data import holding
from pyro_simvae.errors import InputError
from pyro_simvae.figures import induced
from pyro_simvae.inference import files, memory
from pyro_simvae.inference.settings import Hardware
from pyro_simvae.limits import LIMITS

SMALL = ["--network", "mlp", "--network.hidden", "[8]", "--latent_dim", "3"]
SHORT = ["--training.epochs", "1", "--training.num_groups", "8"]


@pytest.fixture
def fit(images, tmp_path):
    """Runs fit on the small images; returns the exit status."""

    def run(*options, out="run", data=None):
        data = f"arrays:{images}" if data is None else data
        return cli.main(["fit", "--data", data, *SMALL, *SHORT, "--out", str(tmp_path / out), *options])

    return run


@pytest.fixture
def refused(capsys, tmp_path):
    """Asserts one line with status 2 that holds `text`, and that the run folder was not made."""

    def check(status, text, out="run"):
        captured = capsys.readouterr()
        assert status == 2
        assert captured.err.startswith("pyro-simvae: error: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert text in captured.err
        assert not (tmp_path / out).exists()

    return check


def test_fit_evaluate_sample_fill_a_run_folder(fit, tmp_path, capsys):
    assert fit() == 0
    run = tmp_path / "run"
    made = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert made >= {
        "config.yaml",
        "metrics.csv",
        "weights.safetensors",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "figures/ledger.png",
        "figures/reconstructions.png",
        "figures/prior.png",
        "figures/one_content.png",
        "figures/latents.png",
    }
    assert cli.main(["evaluate", str(run)]) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    for row in ("z", "raw", "untrained"):
        assert set(evaluation["scores"][row]["label"]) >= {"knn", "linear", "mlp"}
    assert math.isfinite(evaluation["elbo"]["elbo"])
    assert cli.main(["evaluate", str(run), "--weights", "last", "--metrics", "[health]"]) == 0
    assert cli.main(["sample", str(run), "--num_groups", "2", "--num_views", "3"]) == 0
    draws = np.load(run / "samples" / "seed-0-2x3.npz")
    assert draws["x"].shape == (2, 3, 1, 6, 6)
    assert draws["content"].shape == (2, 1, 3)
    assert "Label: test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--metrics", "[probe]"], "unknown metric 'probe': did you mean probes"),
        (["--representations", "[zz]"], "unknown representation 'zz'"),
    ],
)
def test_unknown_metrics_are_refused_before_anything_is_read(tmp_path, refused, options, text):
    refused(cli.main(["evaluate", str(tmp_path / "run"), *options]), text)


def test_config_of_a_run_is_runnable_again(fit, tmp_path):
    assert fit("--model", "simvae", "--model.style_scale", "0.3", "--guide", "mean_field") == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"] == {
        "class_path": "simvae",
        "init_args": {"content_scale": 1.0, "style_scale": 0.3, "learn_style_scale": "no"},
    }
    assert cli.main(["fit", "--config", str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    metrics = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("run", "again")]
    assert metrics[0] == metrics[1]


def test_resume_makes_a_run_longer_and_refuses_another_story(fit, tmp_path, capsys):
    assert fit() == 0
    config = ["fit", "--config", str(tmp_path / "run" / "config.yaml"), "--resume", "true"]
    assert cli.main([*config, "--training.epochs", "2"]) == 0
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    capsys.readouterr()
    assert cli.main([*config, "--latent_dim", "4"]) == 2
    assert "was begun with another latent_dim" in capsys.readouterr().err
    assert cli.main([*config, "--training.learning_rate", "0.5", "--model.style_scale", "0.1"]) == 2
    assert "was begun with another model.style_scale, training.learning_rate: " in capsys.readouterr().err
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert cli.main(config) == 0  # the length of the resumed fit is the run's now
    assert "going on with" in (told := capsys.readouterr().out)
    assert "which has its 2 epochs already" in told


def test_a_copied_run_is_resumed_not_the_first_one(fit, tmp_path):
    assert fit() == 0
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    config = str(tmp_path / "copy" / "config.yaml")
    assert cli.main(["fit", "--config", config, "--resume", "true", "--training.epochs", "2"]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert len((tmp_path / "copy" / "metrics.csv").read_text().splitlines()) == 3


def test_a_shorter_or_failing_resume_leaves_the_config(fit, tmp_path):
    assert fit("--training.epochs", "2") == 0
    path = tmp_path / "run" / "config.yaml"
    before = path.read_bytes()
    config = ["fit", "--config", str(path), "--resume", "true", "--training.epochs"]
    assert cli.main([*config, "1"]) == 0
    assert path.read_bytes() == before
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    assert cli.main([*config, "3"]) == 2
    assert path.read_bytes() == before


def test_a_config_may_come_after_components_and_its_views_be_changed(fit, tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("views: crop\nlatent_dim: 2\n")
    options = ["--model", "private_style", "--model.content_dim", "1", "--config", str(path), "--latent_dim", "2"]
    assert fit(*options, "--views.horizontal_flip", "0") == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["content_dim"] == 1
    assert config["views"]["class_path"] == "crop"
    assert config["views"]["init_args"]["horizontal_flip"] == 0
    assert fit("--config", str(path), "--latent_dim", "2", "--views", "null", out="plain") == 0
    assert yaml.safe_load((tmp_path / "plain" / "config.yaml").read_text())["views"] is None


def test_evaluate_takes_a_word_for_a_list_and_wants_a_run(fit, tmp_path, capsys):
    assert fit() == 0
    run = str(tmp_path / "run")
    assert cli.main(["evaluate", run, "--metrics", "health"]) == 0
    assert cli.main(["evaluate", run, "--metrics=probes", "--representations=z"]) == 0
    assert cli.main(["evaluate"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_options_may_come_before_their_component(fit, tmp_path, refused):
    assert fit("--model.style_scale", "0.2", "--model", "simvae") == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["style_scale"] == 0.2
    refused(fit("--model.style_scale", "0.2", "--model", "vae", out="vae"), "option of --model vae", "vae")


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--epochs", "did you mean --training.epochs"),
        ("--training.epoch", "did you mean --training.epochs"),
        ("--batch_size", "did you mean --training.num_groups"),
        ("--latent_dims", "did you mean --latent_dim"),
        ("--zzzzzz", "unknown option --zzzzzz"),
    ],
)
def test_an_unknown_option_is_compared_with_the_known(fit, refused, option, meant):
    refused(fit(option, "2"), meant)


RUNNING = """
import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule

class Story(PyroModule):
    def __init__(self, likelihood, latent_dim, scale: float = 1.0):
        super().__init__()
        self.likelihood, self.latent_dim, self.scale = likelihood, latent_dim, scale

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", dist.Normal(torch.zeros(self.latent_dim), self.scale).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(content, 0.5).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)
"""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("dist.Normal(content, 0.5)", "dist.Normal(contents, 0.5)"), "NameError: name 'contents' is not defined"),
        (("0.5).to_event(1)", "-0.5).to_event(1)"), "ValueError: Expected parameter scale"),
        (('"z", dist', '"content", dist'), "Multiple sample sites named 'content'"),
        (("num_groups=1, num_views=2", "groups=1"), "unexpected keyword argument 'num_groups'"),
    ],
)
def test_a_mistake_in_a_story_is_told_with_its_place(fit, refused, tmp_path, change, text):
    path = tmp_path / "story.py"
    path.write_text(RUNNING.replace(*change))
    refused(fit("--model", str(path)), text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--data", "minst"], "unknown data 'minst': did you mean mnist"),
        (["--model", "simave"], "unknown model 'simave': did you mean simvae"),
        (["--network", "resnet"], "unknown network 'resnet': did you mean resnet18"),
        (["--likelihood", "bernouli"], "unknown likelihood 'bernouli': did you mean bernoulli"),
        (["--guide", "meanfield"], "unknown guide 'meanfield': did you mean mean_field"),
        (["--views", "mnist_papr"], "unknown views 'mnist_papr': did you mean mnist_paper"),
        (["--model", "nowhere.Story"], "unknown model 'nowhere.Story'"),
        (["--model", "no/such/story.py:Story"], "there is no file no/such/story.py"),
        (["--model.style_scal", "1"], "style_scal"),
        (["--training.epoch", "1"], "epoch"),
        (["--training.num_views", "0"], "training.num_views is 0: give 1 or more"),
        (["--training.num_groups", "500"], "fewer than a batch of 500: lower --training.num_groups"),
        (["--training.learning_rate", "-1"], "training.learning_rate is -1"),
        (["--views", "crop", "--views.rotaton", "3"], "option of --views crop 'rotaton': did you mean rotation"),
        (["--views.rotation", "3"], "put them before it, as in --views crop --views.rotation"),
        (["--views", "crop", "--views.rotation", "270"], "rotation must lie between 0 and 180 degrees"),
        (["--limit", "simclr", "--limit.temperature", "warm"], 'Parser key "limit": Parser key "temperature"'),
        (["--latent_dim", "0"], "latent_dim is 0: give 1 or more"),
        (["--model.style_scale", "-0.4"], "style_scale is -0.4: give a positive"),
        (["--model.content_scale", "inf", "--training.num_views", "1"], "without a prior (improper)"),
        (["--model.content_scale", "inf", "--model.learn_style_scale", "shared"], "grows without bound"),
        (["--likelihood", "bernoulli"], "use views with a threshold, or --likelihood continuous_bernoulli"),
        (["--model", "linear"], "use --network linear and --likelihood normal"),
        (["--guide", "exact"], "use --guide mean_field"),
        (["--hardware.accelerator", "cuda"], "use --hardware.accelerator auto"),
        (["--hardware.precision", "64"], "precision"),
        (["--resume", "true"], "is no run folder"),
    ],
)
def test_bad_option(fit, refused, options, text):
    if options[:2] == ["--hardware.accelerator", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    refused(fit(*options), text)


def test_bad_arrays(fit, refused, tmp_path):
    for name, images, text in (
        ("nan", np.full((40, 6, 6), np.nan), "NaN"),
        ("range", np.full((40, 6, 6), 3.0), "[0, 1]"),
        ("few", np.zeros((9, 6, 6)), "lower --training.num_groups"),
    ):
        np.savez(tmp_path / f"{name}.npz", images=images)
        refused(fit(data=f"arrays:{tmp_path / name}.npz"), text)


def folder_of_images(path, count=40, modes=("L",)):
    path.mkdir(parents=True)
    for i in range(count):
        Image.new(modes[i % len(modes)], (6, 6), i).save(path / f"{i:02}.png")
    return path


def test_bad_folders(fit, refused, tmp_path):
    refused(fit(data=f"folder:{tmp_path / 'missing'}"), "missing")
    (tmp_path / "empty").mkdir()
    refused(fit(data=f"folder:{tmp_path / 'empty'}"), "empty")
    folder = folder_of_images(tmp_path / "corrupt")
    (folder / "07.png").write_bytes(b"\x89PNG not an image")
    refused(fit(data=f"folder:{folder}"), "07.png")
    refused(fit(data=f"folder:{folder_of_images(tmp_path / 'mixed', modes=('L', 'RGB'))}"), "--data.channels")


def test_folder_without_labels_is_fitted_and_evaluated(fit, tmp_path, capsys):
    assert fit(data=f"folder:{folder_of_images(tmp_path / 'images', 60)}") == 0
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert "left out whatever needs labels: the data has none" in capsys.readouterr().out
    assert "label" not in json.loads((tmp_path / "run" / "evaluation.json").read_text())["scores"]["z"]


def shards_of_images(path, folder):
    """The images of a folder in two shards."""
    path.mkdir()
    files = sorted(folder.glob("*.png"))
    for number, part in enumerate((files[::2], files[1::2])):
        with TarWriter(str(path / f"{number}.tar")) as shard:
            for file in part:
                shard.write({"__key__": file.stem, "png": file.read_bytes()})
    return path


@pytest.mark.parametrize("cache", ["no", "cache"])
def test_shards_are_fitted_as_the_same_images_in_memory_are(fit, tmp_path, monkeypatch, cache):
    shards = shards_of_images(tmp_path / "shards", folder_of_images(tmp_path / "images", 60))
    pattern = f"shards:{shards}/{{0..1}}.tar"
    assert fit(data=pattern, out=tmp_path / "memory") == 0
    monkeypatch.setattr(holding, "MEMORY_BUDGET", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    options = ["--data.cache", "no"] if cache == "no" else []
    assert fit(*options, data=pattern, out=tmp_path / "large") == 0
    assert (tmp_path / "home" / "pyro-simvae").is_dir() == (cache != "no")
    config = tmp_path / "large" / "config.yaml"
    assert yaml.safe_load(config.read_text())["data"]["init_args"]["cache"] == ("no" if cache == "no" else None)
    assert cli.main(["fit", "--config", str(config), "--out", str(tmp_path / "again")]) == 0
    metrics = [(tmp_path / run / "metrics.csv").read_bytes() for run in ("memory", "large", "again")]
    assert metrics[0] == metrics[1] == metrics[2]


def test_bad_shards(fit, refused, tmp_path):
    refused(fit(data="shards"), "pattern")
    refused(fit(data=f"shards:{tmp_path}/{{0..3}}.tar"), "there is no shard")
    shards = shards_of_images(tmp_path / "shards", folder_of_images(tmp_path / "images"))
    whole = (shards / "1.tar").read_bytes()
    (shards / "1.tar").write_bytes(whole[: len(whole) // 2])
    refused(fit(data=f"shards:{shards}"), "1.tar")


STORY = """
import pyro, torch
from pyro import distributions as dist
from pyro.nn import PyroModule

class Story(PyroModule):
    def __init__(self, likelihood, latent_dim):
        super().__init__()
        self.likelihood, self.latent_dim = likelihood, latent_dim

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2), pyro.plate("views", num_views, dim=-1):
            BODY
"""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            'return pyro.sample("x", self.likelihood(torch.zeros(num_groups, num_views, 3)), obs=x)',
            "no sample site 'z'",
        ),
        ('return pyro.sample("z", dist.Normal(torch.zeros(3), 1.).to_event(1))', "no sample site 'x'"),
        (
            'z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.).to_event(1)); '
            'return pyro.sample("x", self.likelihood(z[..., :3]), obs=x)',
            "site 'z' has batch shape (3, 2) and event shape (5,)",
        ),
        (
            'z = pyro.sample("z", dist.Normal(torch.zeros(5, 1, 3), 1.).to_event(1)); '
            'return pyro.sample("x", self.likelihood(z), obs=x)',
            "give its sites the plates' dims",
        ),
        ("syntax error", "cannot be imported"),
    ],
)
def test_bad_story(fit, refused, tmp_path, body, text):
    path = tmp_path / "bad_story.py"
    path.write_text(STORY.replace("BODY", body))
    refused(fit("--model", f"{path}:Story"), text)


def test_class_that_the_file_does_not_have(fit, refused, tmp_path):
    (tmp_path / "fine.py").write_text(STORY.replace("BODY", "pass"))
    refused(fit("--model", f"{tmp_path / 'fine.py'}:Stor"), "did you mean Story")


def test_used_and_unwritable_run_folders(fit, tmp_path, capsys):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    assert fit(out="used") == 2
    assert "already used: choose another --out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.txt"]
    assert fit(out="used/thesis.txt/run") == 2
    assert "choose a path that can be used" in capsys.readouterr().err
    assert (tmp_path / "used" / "thesis.txt").read_text() == "mine"


def test_broken_checkpoints_and_weights(fit, tmp_path, capsys):
    assert fit() == 0
    run = tmp_path / "run"
    resume = ["fit", "--config", str(run / "config.yaml"), "--resume", "true", "--training.epochs", "2"]
    last, weights = run / "checkpoints" / "last.ckpt", run / "weights.safetensors"
    whole = last.read_bytes()
    other = {"format": files.CHECKPOINT_FORMAT, "weights": {"model.other": torch.zeros(2)}}
    for write, text in (
        (lambda: last.write_bytes(whole[: len(whole) // 2]), "is truncated or was not written by fit"),
        (lambda: last.write_bytes(b"not a checkpoint"), "is truncated or was not written by fit"),
        (lambda: torch.save({"weights": 1}, last), "was not written by this version of fit"),
        (lambda: torch.save(other, last), "the weights of another story, guide or network"),
        (lambda: last.unlink(), "there is no checkpoint"),
    ):
        write()
        capsys.readouterr()
        assert cli.main(resume) == 2
        assert text in capsys.readouterr().err
    weights.write_bytes(weights.read_bytes()[:50])
    assert cli.main(["evaluate", str(run)]) == 2
    assert "is truncated or no safetensors file" in capsys.readouterr().err
    weights.unlink()
    assert cli.main(["evaluate", str(run)]) == 2
    assert "has no weights yet" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_graph_of_a_program_that_has_none_is_refused_before_anything_is_written(tmp_path, capsys):
    arguments = ["fit", "--limit", "deepcluster", "--latent_dim", "4", "--out", str(tmp_path / "run")]
    assert cli.main([*arguments, "--engine", "graph"]) == 2
    error = capsys.readouterr().err
    assert "--hardware.engine graph cannot capture this program: it depends on numbers at or after the site" in error
    assert "(clustering.py, line " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_program_without_a_graph_says_so_once_and_is_fitted(fit, capsys):
    assert fit("--limit", "deepcluster", "--latent_dim", "4", "--training.epochs", "2") == 0
    assert capsys.readouterr().out.count("steps are not replayed as one graph, since it depends on numbers") == 1


@pytest.mark.parametrize(("option", "value"), [("precision", "fp8"), ("engine", "fast"), ("accelerator", "abacus")])
def test_unknown_hardware(capsys, option, value):
    assert cli.main(["fit", f"--{option}", value]) == 2
    assert f"Got value: {value}" in capsys.readouterr().err
    with pytest.raises(InputError, match=rf"unknown hardware\.{option} '{value}'"):
        Hardware(**{option: value})


def test_batch_beyond_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    assert cli.main(["fit", "--out", str(tmp_path / "run")]) == 2
    assert re.search(r"a step on 64 groups takes about .* GiB are free on cpu: .*num_groups", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_full_disk_keeps_the_last_checkpoint(fit, tmp_path, capsys, monkeypatch):
    save, count = torch.save, iter(range(100))

    def full(state, path):
        if next(count) == 1:  # after the initial one
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    assert fit("--training.epochs", "3") == 2
    assert "No space left on device" in (error := capsys.readouterr().err)
    assert "free some space, then add --resume true" in error
    monkeypatch.undo()
    checkpoints = tmp_path / "run" / "checkpoints"
    assert not list(checkpoints.glob(".*"))
    assert files.load_checkpoint(checkpoints / "last.ckpt")["epoch"] == 0


def test_sampling_flat_content_is_refused(fit, tmp_path, capsys):
    assert fit("--model.content_scale", "inf") == 0
    assert "flat content is improper" in capsys.readouterr().out
    assert cli.main(["sample", str(tmp_path / "run")]) == 2
    assert "give a finite content_scale" in capsys.readouterr().err
    assert not (tmp_path / "run" / "samples").exists()


def test_sample_never_writes_over_a_file(fit, tmp_path, capsys):
    assert fit() == 0
    (tmp_path / "mine.npz").write_text("mine")
    assert cli.main(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "mine.npz")]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "mine.npz").read_text() == "mine"
    assert cli.main(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "mine.txt")]) == 2
    assert "is no .npz file" in capsys.readouterr().err


def test_vectors_are_fitted_by_the_linear_story(tmp_path, capsys):
    views = np.random.default_rng(0).normal(size=(60, 2, 5)).astype(np.float32)
    np.savez(tmp_path / "views.npz", views=views)
    options = ["--model", "linear", "--network", "linear", "--likelihood", "normal", "--guide", "exact"]
    options += ["--latent_dim", "2", "--out", str(tmp_path / "run"), *SHORT]
    assert cli.main(["fit", "--data", f"arrays:{tmp_path / 'views.npz'}", *options]) == 0
    assert "left out reconstructions and samples: the views are vectors" in capsys.readouterr().out
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0


def test_limits_lists_every_claim(capsys):
    assert cli.main(["limits"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()]
    assert set(LIMITS) <= set(rows)
    assert cli.main(["limits", "vicreg", "simclr"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()]
    assert [row for row in rows if row in LIMITS] == ["vicreg", "simclr"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["simcl"], "unknown limit 'simcl': did you mean simclr"),
        (["--figure", "simclr"], "simclr is no .png file: give --figure NAME.png, after the names"),
        (["simclr", "--figur", "a.png"], "--figur"),
    ],
)
def test_bad_limits(refused, options, text):
    refused(cli.main(["limits", *options]), text)


def test_limits_figure_is_written_once(tmp_path, capsys, monkeypatch):
    for name, value in (("CELLS", 5), ("ANGLES", 12), ("PIXELS", 9)):
        monkeypatch.setattr(induced, name, value)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["limits", "simclr", "--figure"]) == 0
    assert cli.main(["limits", "simclr", "logdet", "--figure", "figures/two.png"]) == 0
    assert "drawn: figures/two.png" in capsys.readouterr().out
    drawn = (tmp_path / "limits.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert (tmp_path / "figures" / "two.png").is_file()
    assert cli.main(["limits", "simclr", "--figure"]) == 2
    assert "limits.png exists: choose another --figure" in capsys.readouterr().err
    assert (tmp_path / "limits.png").read_bytes() == drawn


def test_a_reader_that_has_seen_enough_ends_a_command_quietly():
    command = f"{sys.executable} -m pyro_simvae graph simvae | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.stdout == "story SimVAE\n"
    assert done.stderr == ""
