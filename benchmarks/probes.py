"""What evaluation costs: seconds and memory of each probe on a representation of MNIST's size.

    python benchmarks/probes.py [--train 60000] [--test 10000] [--dim 64] [--out probes.json]

The classes overlap, on curved supports, so that no probe converges at once. Memory is the peak beyond the
representations themselves, in copies of them (Linux only).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyro_simvae.evaluation import classifiers, regressors
from pyro_simvae.evaluation.clustering import cluster
from pyro_simvae.evaluation.disentanglement import disentangle
from pyro_simvae.evaluation.features import Features, Labels, Prepared, Targets
from pyro_simvae.evaluation.few_labels import few_label_curve
from pyro_simvae.evaluation.kernel import kernel_r2

CLASSES, MODES, LATENT = 10, 3, 12
ROWS = 1_000
"""Items that are drawn at once, so that drawing them needs no memory to speak of."""


def draw(count: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items `(count, dim)` float32 of ten classes, and their classes: a mixture, bent by a random network."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    centres = 0.9 * fixed.normal(size=(CLASSES, MODES, LATENT))
    first, second = fixed.normal(size=(LATENT, 64)) / 3.5, fixed.normal(size=(64, dim)) / 8
    scale = np.geomspace(1, 0.03, dim)
    labels = rng.integers(0, CLASSES, count)
    items = np.empty((count, dim), np.float32)
    for rows in np.array_split(np.arange(count), -(-count // ROWS)):
        hidden = centres[labels[rows], rng.integers(0, MODES, len(rows))] + 0.75 * rng.normal(size=(len(rows), LATENT))
        items[rows] = (np.tanh(hidden @ first) @ second + 0.15 * rng.normal(size=(len(rows), dim))) * scale
    return items, labels


def resident(key: str) -> int:
    """This process's VmRSS (now) or VmHWM (peak), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def cost(compute: Callable[[], Any], size: int) -> dict[str, float]:
    """Seconds, and the peak of memory in units of `size` bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, start = resident("VmRSS"), time.perf_counter()
    compute()
    return {"seconds": time.perf_counter() - start, "copies": (resident("VmHWM") - before) / size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--test", type=int, default=10_000, help="items of valid and of test")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    drawn = [draw(count, arguments.dim, seed) for seed, count in enumerate([arguments.train, *[arguments.test] * 2])]
    features, labels = Features(*(items for items, _ in drawn)), Labels(*(classes for _, classes in drawn))
    targets = Targets(*(items[:, :3].sum(1) + items[:, 3] ** 2 for items in features))
    prepared, size = Prepared(features), sum(split.nbytes for split in features)
    # What is imported late is not charged to the first probe.
    few = Labels(*(split[:200] for split in labels))
    classifiers.mlp_accuracy(Prepared(Features(*(split[:200] for split in features))), few, 0)
    probes: dict[str, Callable[[], Any]] = {
        "15-NN": lambda: classifiers.knn_accuracy(prepared, labels),
        "linear": lambda: classifiers.linear_accuracy(prepared, labels),
        "MLP": lambda: classifiers.mlp_accuracy(prepared, labels, 0),
        "ridge": lambda: regressors.linear_r2(prepared, targets),
        "k-NN regression": lambda: regressors.knn_r2(prepared, targets),
        "kernel regression": lambda: kernel_r2(prepared, targets),
        "few labels": lambda: few_label_curve(prepared, labels, 0),
        "clusters": lambda: cluster(prepared, labels, 0),
        "disentanglement": lambda: disentangle(features, {"class": labels, "value": targets}, 0),
    }
    results = {name: cost(probe, size) for name, probe in probes.items()}
    print(f"{arguments.train} + 2 x {arguments.test} items of {arguments.dim} dimensions, {size / 2**20:.0f} MiB\n")
    print("| probe | seconds | extra copies |\n|---|---|---|")
    for name, row in results.items():
        print(f"| {name} | {row['seconds']:.1f} | {row['copies']:.2f} |")
    print(f"| 15-NN, linear and MLP | {sum(results[n]['seconds'] for n in ('15-NN', 'linear', 'MLP')):.1f} | |")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
