"""Every limit on digits: fitted by `fit`, scored by 15-NN on the held-out representation.

    python benchmarks/limits_on_digits.py [NAME ...] [--epochs 100] [--out limits_on_digits.json]

A network of two layers, 64 dimensions, Adam; what a method needs besides on a set as small as this one is in
`SETTINGS`, chosen by valid accuracy. CLIP has two modalities: images and the names of their classes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pyro_simvae import commands, experiment
from pyro_simvae.evaluation.classifiers import knn_accuracy
from pyro_simvae.evaluation.encoders import LatentLoc, OneModality
from pyro_simvae.evaluation.features import Features, Labels, Prepared
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.settings import Training
from pyro_simvae.inference.svi import load_weights
from pyro_simvae.limits import LIMITS

TRAINING = Training(epochs=100, num_groups=128, learning_rate=1e-3, schedule="cosine")
NETWORK = {"class_path": "mlp", "init_args": {"hidden": [256, 256]}}
SETTINGS: dict[str, dict[str, Any]] = {
    "koleo": {"init_args": {"temperature": 0.2}},
    "byol": {"init_args": {"momentum": 0.99, "hidden": 256}},
    "deepcluster": {"init_args": {"memory_size": 1294}},
    "dino": {"init_args": {"momentum": 0.99, "num_prototypes": 256}},
    "clip": {"data": "paired_digits", "model": "multimodal"},
}
"""Arguments of `fit` by limit, where the common ones do not suit the method."""


def fit(name: str, epochs: int, folder: Path) -> dict[str, float]:
    """Seconds of one fit, and the valid and test 15-NN accuracy of its representation."""
    options: dict[str, Any] = {"data": "digits", "latent_dim": 64, "network": NETWORK, **SETTINGS.get(name, {})}
    training = replace(TRAINING, epochs=epochs)
    limit = {"class_path": name, "init_args": options.pop("init_args", {})}
    start = time.perf_counter()
    run = commands.fit(limit=limit, training=training, out=str(folder / name), **options)
    seconds = time.perf_counter() - start
    fitted = experiment.build(experiment.read_run(run))
    load_weights(fitted.pair, load_checkpoint(run / "checkpoints" / "best.ckpt")["weights"], run)
    guide, splits, views = fitted.guide, fitted.splits, fitted.views
    if isinstance(splits.train.event_shape, Mapping):
        guide = OneModality(guide, "image", splits.train.event_shape)
        splits, views = [split.modality("image") for split in splits], views.views["image"]
    features = Features(*(represent(LatentLoc(guide), split, views.plain) for split in splits))
    labels = Labels(*(split.labels.numpy() for split in splits))
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
