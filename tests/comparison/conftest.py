"""A comparison whose runs are made up: their folders hold what evaluate and fit would have left, at no cost."""

import json

import numpy as np
import pytest
import torch
from torchvision.utils import save_image

from pyro_simvae.comparison.grid import parse
from pyro_simvae.inference.files import write_csv

RECORD = {
    "fit": {"seconds": 2.0, "peak_memory": 2**30, "peak_gpu_memory": None},
    "evaluation": {"seconds": 1.0, "peak_memory": 2**30, "peak_gpu_memory": None},
    "metrics": None,
    "representations": None,
    "device": "a <fast> device",
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
}


@pytest.fixture
def made_up(tmp_path):
    """make(methods, seeds, labels) -> (grid, out), with a run folder for each cell."""

    def make(methods=("simvae", "simclr", "untrained", "raw"), seeds=(0, 1, 2), labels=True):
        grid = parse({"data": ["digits"], "methods": list(methods), "seeds": list(seeds)})
        for index, cell in enumerate(grid.cells()):
            folder = cell.folder(tmp_path)
            (folder / "figures").mkdir(parents=True)
            (folder / "cell.json").write_text(json.dumps(RECORD))
            (folder / "evaluation.json").write_text(json.dumps(evaluation(cell.seed + 0.1 * index, labels)))
            rows = [{"epoch": epoch, "train/elbo": -10.0 / epoch, "valid/elbo": -11.0 / epoch} for epoch in (1, 2, 3)]
            write_csv(folder / "metrics.csv", rows)
            save_image(
                torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)), folder / "figures" / "latents.png"
            )
        return grid, tmp_path

    return make


def evaluation(value, labels):
    factors = {
        "hue": {"linear": value, "knn": 0.5},
        "angle": {"linear": 0.5, "knn": 0.1, "kernel": 1.0},
        "shape": {"linear": 0.25},
    }
    label = {"label": {"knn": np.tanh(value), "linear": 0.5 + 0.1 * value}} if labels else {}
    return {
        "scores": {
            "z": {**label, **factors, "none": {"rankme": 3.0 + value}},
            "raw": {**label},
            "story": {"none": {"bound": -100.0 - value}},
        },
        "content_targets": ["label", "shape"] if labels else ["shape"],
        "style_targets": ["hue", "angle"],
        "left_out": ["whatever needs more: there is none"],
    }
