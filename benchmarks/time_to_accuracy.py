"""MNIST: seconds of fitting until 15-NN on the latent loc finds 0.93 of the test labels.

    python benchmarks/time_to_accuracy.py [--root data] [--epochs 8] [--repeats 3] [--out time_to_accuracy.json]

    published    configs/mnist_paper.yaml with the published settings: the paper's MLP, D = 10, Adam with step size
                 8e-5 and eps 1e-4, s² = 0.15, log-likelihood times 100; 8 epochs at most
    ours         configs/mnist.yaml at D = 10, noise scale 0.25, in a single epoch: a small convolutional encoder,
                 chosen on the validation split

Both go through our fit loop, so that the difference is one of settings only.
The two alternate: a fit of ours, with the next seed, and an epoch of the published route, until all repeats of ours are
done. The clock runs over training steps, views included; validation, checkpoints and the measurements of accuracy, over
all training and test images, are outside. Ours is measured every 100 steps, from the untrained encoder on, and stops
where it gets there.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from measure import figure, report, spread, table
from rich.console import Console

from pyro_simvae import experiment
from pyro_simvae.evaluation.classifiers import knn_accuracy
from pyro_simvae.evaluation.encoders import LatentLoc
from pyro_simvae.evaluation.features import Features, Labels, Prepared
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.inference.elbo import Ledger
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI

CONFIGS = Path(__file__).parents[1] / "configs"
PUBLISHED = {
    "training": {"learning_rate": 8e-5, "adam_eps": 1e-4, "likelihood_weight": 100.0, "schedule": "constant"},
}
OURS = {
    "latent_dim": 10,  # at 64 a random convolutional encoder is there already
    "likelihood": {"class_path": "normal", "init_args": {"scale": 0.25}},
    "training": {"epochs": 1},
}
EVERY = 100


class Point(NamedTuple):
    """Of a learning curve: seconds and steps of training, and 15-NN accuracy on test."""

    seconds: float
    steps: int
    accuracy: float


class Reached(Exception):
    """The accuracy that was asked for is there."""


class Route(Progress):
    """A fit that is followed: its clock runs over training steps and stands still while accuracy is measured.

    Args:
        config: a file under `configs/`.
        changes: of the config.
        root: where MNIST is.
        target: the accuracy at which it stops.
        every: steps between measurements, besides those at the end of an epoch.
        seed: of the fit.
        folder: gets its checkpoints.
    """

    def __init__(
        self,
        config: str,
        changes: dict[str, Any],
        root: str,
        target: float,
        every: int | None,
        seed: int,
        folder: Path,
    ) -> None:
        super().__init__(Console(file=io.StringIO()), 1)
        options = yaml.safe_load((CONFIGS / config).read_text(encoding="utf-8"))
        options["data"]["init_args"]["root"] = root
        training = Training(**{**options["training"], **changes["training"]})
        fixed = {"guide": "mean_field", "hardware": Hardware(accelerator="cpu"), "seed": seed}
        parts = experiment.build(experiment.Config(**{**options, **changes, **fixed, "training": training}))
        (folder / "checkpoints").mkdir(parents=True)
        fabric = fabric_of(Hardware("cpu"))
        train, valid, test = parts.splits
        self.svi = SVI(parts.pair, train, valid, parts.views, training, fabric, folder, seed)
        self.encoder, self.plain = LatentLoc(parts.guide), parts.views.plain
        self.train, self.test = train, test
        self.target, self.every, self.seed = target, every, seed
        self.seconds = 0.0
        self.curve: list[Point] = []

    @property
    def reached(self) -> bool:
        return bool(self.curve) and self.curve[-1].accuracy >= self.target

    def run_epoch(self) -> None:
        """Another epoch, or the part of it after which the accuracy is reached."""
        if not self.curve:
            self._measure(0)
        self.start = time.perf_counter()
        with contextlib.suppress(Reached):
            self.svi._epoch(self, lambda: False)

    def step(self, epoch: int, step: int, steps: int, rate: float, ledger: Ledger, num_groups: int) -> None:
        self.seconds += time.perf_counter() - self.start
        if step == steps or (self.every and step % self.every == 0):
            self._measure(epoch * steps + step)
            if self.reached:
                raise Reached
        self.start = time.perf_counter()

    def _measure(self, steps: int) -> None:
        train, test = (represent(self.encoder, split, self.plain) for split in (self.train, self.test))
        labels = Labels(self.train.labels.numpy(), self.test.labels.numpy(), self.test.labels.numpy())
        accuracy = knn_accuracy(Prepared(Features(train, test, test)), labels)
        self.curve.append(Point(self.seconds, steps, accuracy))


def fit(routes: Sequence[Route], published: Route, epochs: int) -> None:
    """Whole fits of ours and epochs of the published route, by turns, each first in every other round."""
    waiting = list(routes)
    for i in range(max(epochs, len(waiting))):
        turns: list[Route] = [waiting.pop(0)] if waiting else []
        if i < epochs and not published.reached:
            turns.append(published)
        for route in turns[:: -1 if i % 2 else 1]:
            torch.manual_seed(1000 * i + route.seed)  # of views and draws
            route.run_epoch()
            seconds, steps, accuracy = route.curve[-1]
            name = "published" if route is published else f"ours, seed {route.seed}"
            print(f"{name}: {seconds:.1f} s, {steps} steps, {accuracy:.4f}", file=sys.stderr)


def tables(routes: Sequence[Route], published: Route, result: dict[str, Any]) -> list[str]:
    last = published.curve[-1]
    lines = [
        ["ours", figure(result["ours_seconds"], 1), f"{min(route.curve[-1].accuracy for route in routes):.3f}"],
        ["published", f"{last.seconds:.1f}", f"{last.accuracy:.3f}"],
        ["ours / published", figure(result["ratio"], 3), ""],
    ]
    curves = {"published": published, **{f"ours, seed {route.seed}": route for route in routes}}
    points = [
        [name, f"{point.seconds:.1f}", str(point.steps), f"{point.accuracy:.4f}"]
        for name, route in curves.items()
        for point in route.curve
    ]
    header = ["", "seconds of training", "steps", "15-NN accuracy, test"]
    return [table(["", "seconds of training", "15-NN accuracy, test"], lines), table(header, points)]


def main() -> None:
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as in step_time.py
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where MNIST is, or is downloaded to")
    parser.add_argument("--target", type=float, default=0.93)
    parser.add_argument("--epochs", type=int, default=8, help="of the published route, at most")
    parser.add_argument("--repeats", type=int, default=3, help="fits of ours, with seeds 0, 1, ...")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        make = partial(Route, root=arguments.root, target=arguments.target)
        folder = Path(temporary)
        published = make("mnist_paper.yaml", PUBLISHED, every=None, seed=0, folder=folder / "published")
        routes = [
            make("mnist.yaml", OURS, every=EVERY, seed=seed, folder=folder / f"ours-{seed}")
            for seed in range(arguments.repeats)
        ]
        fit(routes, published, arguments.epochs)
    seconds, theirs = [route.curve[-1].seconds for route in routes], published.curve[-1].seconds
    result = {
        "target": arguments.target,
        "ours_seconds": spread(seconds),
        "ours_reached": all(route.reached for route in routes),
        "published_seconds": theirs,
        "published_reached": published.reached,
        "ratio": spread([each / theirs for each in seconds]),
        "curves": {
            "published": [point._asdict() for point in published.curve],
            "ours": [[point._asdict() for point in route.curve] for route in routes],
        },
    }
    report(result, tables(routes, published, result), arguments.out, ["scikit-learn"])


if __name__ == "__main__":
    main()
