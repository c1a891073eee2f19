"""Paired data and the multimodal story from the command line, and through the loop with the CLIP limit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from pyro_simvae import cli, limits
from pyro_simvae import experiment as exp
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.modalities import Modalities

SMALL = ["--network", "mlp", "--network.hidden", "[8]", "--latent_dim", "3", "--training.epochs", "1"]


@pytest.fixture
def fit(tmp_path):
    def run(*options, model=("--model", "multimodal"), data="paired_digits"):
        return cli.main(["fit", "--data", data, *model, *SMALL, "--out", str(tmp_path / "run"), *options])

    return run


@pytest.mark.parametrize("missing", ["0", "0.5"])
def test_fit_evaluate_sample(fit, tmp_path, missing, capsys):
    assert fit("--data.missing", missing) == 0
    run = tmp_path / "run"
    made = {path.name for path in (run / "figures").iterdir()}
    assert made == {"ledger.png", "reconstructions_image.png", "latents_image.png", "latents_text.png"}
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/log_p/x_image", "train/log_p/x_text", "valid/log_q/z"} <= set(header)
    assert cli.main(["evaluate", str(run), "--metrics", "[probes]"]) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert set(evaluation["modalities"]) == {"image", "text"}
    assert set(evaluation["retrieval"]) == {"image to text", "text to image"}
    assert cli.main(["sample", str(run), "--num_groups", "3", "--num_views", "2"]) == 0
    draws = np.load(run / "samples" / "seed-0-3x2.npz")
    assert {name: draws[name].shape for name in draws} == {
        "content": (3, 1, 3),
        "z": (3, 2, 3),
        "x_image": (3, 1, 1, 8, 8),
        "x_text": (3, 1, 5, 27),
    }
    assert cli.main(["fit", "--config", str(run / "config.yaml"), "--resume", "true", "--training.epochs", "2"]) == 0
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    assert "retrieval" in capsys.readouterr().out.lower()


def test_paired_folders(fit, tmp_path):
    for folder, side in (("photo", 6), ("sketch", 5)):
        for i in range(100):
            path = tmp_path / "pairs" / folder / str(i % 2) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (side, side), i).save(path)
    assert fit(data=f"paired_folder:{tmp_path / 'pairs'}") == 0
    assert (tmp_path / "run" / "figures" / "reconstructions_sketch.png").is_file()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data": "digits"}, "needs two or more modalities"),
        (
            {"model": ()},
            "SimVAE is a story of one kind of view: use --model multimodal",
        ),
        ({"options": ("--training.num_views", "1")}, "set the number of views to 2"),
        ({"options": ("--training.num_views", "3")}, "set num_views to 2 or fewer"),
        ({"options": ("--data.missing", "1")}, "give the share of images without text"),
        (
            {"options": ("--data.missing", "0.5", "--model.content_scale", "inf")},
            "or two or more modalities",
        ),
        ({"options": ("--likelihood", "bernoulli")}, "use views with a threshold"),
        ({"data": "paired_folder:nowhere"}, "there is no folder nowhere"),
    ],
)
def test_bad_option(fit, tmp_path, capsys, options, text):
    options = dict(options)
    assert fit(*options.pop("options", ()), **options) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_clip_learns_to_pair_digits_with_their_numerals(tmp_path):
    training = Training(epochs=3)
    network = {"class_path": "mlp", "init_args": {"hidden": [32]}}
    config = exp.Config(
        "paired_digits", "none", network, "continuous_bernoulli", "multimodal", "mean_field", 4, training, Hardware(), 0
    )
    experiment = exp.build(config)
    pair = LedgerELBO(*limits.clip()(experiment.pair.model, experiment.pair.guide))
    (tmp_path / "checkpoints").mkdir()
    arguments = experiment.splits.train, experiment.splits.valid, experiment.views, training
    svi = SVI(pair, *arguments, fabric_of(config.hardware), tmp_path)
    before = svi.validate(experiment.splits.valid)["objective"]
    with Progress(Console(quiet=True), 3) as progress:
        svi.run(progress)
    assert svi.rows[-1]["valid/objective"] > before + 0.5
    decoders = [p for name, p in pair.named_parameters() if "likelihood" in name]
    assert all(p.grad is None for p in decoders)
    fresh = LedgerELBO(*limits.clip(0.5)(*exp.build(config).pair.children()))
    fresh.load_state_dict(torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=False)["weights"])
    x = experiment.splits.test.images(torch.arange(16))
    x = Modalities({name: view.float() for name, view in x.views.items()})
    torch.testing.assert_close(fresh.eval()(x).objective, pair.eval()(x).objective)
