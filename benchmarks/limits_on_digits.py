"""Every limit on digits: fitted by `fit`, scored by 15-NN on the held-out representation.

    python benchmarks/limits_on_digits.py [NAME ...] [--epochs 60] [--out limits_on_digits.json]

The settings are those of configs/demo.yaml where the limit allows them; what a method needs besides is in `SETTINGS`.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pyro_simvae import commands, experiment
from pyro_simvae.evaluation.classifiers import knn_accuracy
from pyro_simvae.evaluation.features import Features, Labels, Prepared
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.evaluation.score import LatentLoc
from pyro_simvae.inference.settings import Training
from pyro_simvae.limits import LIMITS

TRAINING = Training(epochs=60, num_groups=128, learning_rate=2e-3, schedule="cosine")
NETWORK = {"class_path": "mlp", "init_args": {"hidden": [256, 256]}}
SETTINGS: dict[str, dict[str, Any]] = {}
"""Arguments of `fit` by limit, where the common ones do not suit the method."""


def fit(name: str, epochs: int, folder: Path) -> dict[str, float]:
    """Seconds of one fit, and the valid and test 15-NN accuracy of its representation."""
    options: dict[str, Any] = {"latent_dim": 16, "network": NETWORK, **SETTINGS.get(name, {})}
    training = replace(options.pop("training", TRAINING), epochs=epochs)
    limit = {"class_path": name, "init_args": options.pop("init_args", {})}
    start = time.perf_counter()
    run = commands.fit(data="digits", limit=limit, training=training, out=str(folder / name), **options)
    seconds = time.perf_counter() - start
    fitted = experiment.build(experiment.read_run(run))
    commands._load(fitted, run, "best")
    features = Features(*(represent(LatentLoc(fitted.guide), split, fitted.views.plain) for split in fitted.splits))
    labels = Labels(*(split.labels.numpy() for split in fitted.splits))
    scores = {"test": knn_accuracy(Prepared(features), labels)}
    swapped = Features(features.train, features.test, features.valid)
    scores["valid"] = knn_accuracy(Prepared(swapped), Labels(labels.train, labels.test, labels.valid))
    spread = torch.as_tensor(features.train).std(0).mean().item()
    return {"seconds": seconds, "valid": scores["valid"], "test": scores["test"], "spread": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or LIMITS:
            results[name] = fit(name, arguments.epochs, Path(folder))
    print("\n| limit | seconds | valid 15-NN | test 15-NN | spread of z |\n|---|---|---|---|---|")
    for name, row in results.items():
        print(f"| {name} | {row['seconds']:.0f} | {row['valid']:.3f} | {row['test']:.3f} | {row['spread']:.3f} |")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
