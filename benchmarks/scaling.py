"""How our step grows with groups a batch, views J and latent dimensions D, and a fit with the size of its data.

    python benchmarks/scaling.py [--out scaling.json]

Step time and peak memory of the paper's MLP on 28 x 28 pixels, one of the three changed at a time from 64 groups,
J = 2 and D = 10. Then, over random images of that size in an .npz file: seconds from the start of Python to the first
step (data read, the pair made and checked, as `pyro-simvae fit` does), seconds of an epoch with its views and its
validation, and peak memory. Each row is a process of its own. Memory is Linux's VmHWM.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
from measure import figure, peak_memory_now, report, spread, table, take_turns
from rich.console import Console
from step_time import SIZES, Size, ours

from pyro_simvae import experiment
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI

GRID = {"num_groups": (16, 64, 256, 1024), "num_views": (2, 4, 8), "latent_dim": (2, 10, 50, 250)}
IMAGES = (1_000, 10_000, 60_000)
NAMES = {"num_groups": "groups a batch", "num_views": "views J", "latent_dim": "dimensions D"}


def step_cell(option: str, value: int, rounds: int = 20) -> dict[str, Any]:
    """Milliseconds of a step, milliseconds a view, and peak memory."""
    pyro.enable_validation(False)  # as `fit` does after the first batch
    size: Size = replace(SIZES["mlp"], **{option: value})
    work = partial(ours(size), size.views())
    times = [1e3 * t for t in take_turns({"ours": work}, rounds, warm_up=3)["ours"]]
    views = size.num_groups * size.num_views
    return {"milliseconds": spread(times), "each_view": spread([t / views for t in times]), "mib": peak_memory_now()}


def data_cell(path: str, started: float) -> dict[str, Any]:
    """Seconds to the first step since `started`, seconds of an epoch, and peak memory."""
    training = Training(epochs=1)
    arrays = {"class_path": "arrays", "init_args": {"path": path}}
    hardware = Hardware(accelerator="cpu")
    parts = experiment.build(
        experiment.Config(
            arrays, "mnist_paper", "mlp", "bernoulli", "simvae", "mean_field", 10, training, hardware, seed=0
        )
    )
    folder = Path(path).parent / "run"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    train, valid, _ = parts.splits
    svi = SVI(parts.pair, train, valid, parts.views, training, fabric_of(Hardware("cpu")), folder)
    svi.check()
    begin = time.time()
    svi.run(Progress(Console(file=io.StringIO()), 1))
    return {"start": begin - started, "epoch": time.time() - begin, "mib": peak_memory_now()}


CELLS: dict[str, Callable[..., dict[str, Any]]] = {"step": step_cell, "data": data_cell}


def run(cell: str, *values: object) -> dict[str, Any]:
    """The cell in a process of its own."""
    command = [sys.executable, __file__, "--cell", json.dumps([cell, *values])]
    print(*command[-1:], file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def over_data(count: int, folder: Path) -> dict[str, Any]:
    """A fit to random images, `count` of them."""
    path = folder / f"{count}.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8))
    result = run("data", str(path), time.time())
    path.unlink()
    return result


def main() -> None:
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as in step_time.py
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=int, default=IMAGES, help="sizes of the data")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        cell, *values = arguments.cell
        print(json.dumps(CELLS[cell](*values)))
        return
    steps = {option: {value: run("step", option, value) for value in values} for option, values in GRID.items()}
    with tempfile.TemporaryDirectory() as folder:
        data = {count: over_data(count, Path(folder)) for count in arguments.images}
    tables = [
        table(
            [NAMES[option], "step, ms", "ms a view", "peak memory, MiB"],
            [
                [str(value), figure(cell["milliseconds"], 1), figure(cell["each_view"], 3), f"{cell['mib']:.0f}"]
                for value, cell in cells.items()
            ],
        )
        for option, cells in steps.items()
    ]
    rows = [
        [f"{count:,}", f"{cell['start']:.1f}", f"{cell['epoch']:.1f}", f"{cell['mib']:.0f}"]
        for count, cell in data.items()
    ]
    tables.append(table(["images", "start, s", "epoch, s", "peak memory, MiB"], rows))
    report({"steps": steps, "data": data}, tables, arguments.out)


if __name__ == "__main__":
    main()
