"""What the contrastive limits cost: memory at 4096 groups, and time beside lightly's NTXentLoss at 512 groups.

    python benchmarks/contrastive.py [--steps 60] [--out contrastive.json]

Loss and gradient of representations `(N, 2, 128)`, float32. Times alternate in one process; the figure is the median of
the ratios. Extra memory is the peak of a process of its own, above what it held before the loss.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from pyro_simvae import limits

D, TEMPERATURE = 128, 0.5
Loss = Callable[[Tensor], Tensor]


REFERENCE, SIMCLR, DCL = NTXentLoss(TEMPERATURE), limits.simclr(TEMPERATURE), limits.dcl(TEMPERATURE)
LOSSES: dict[str, Loss] = {
    "lightly": lambda z: REFERENCE(z[:, 0], z[:, 1]),
    "simclr": lambda z: SIMCLR.loss(z).total,
    "dcl": lambda z: DCL.loss(z).total,
}


def representations(num_groups: int) -> Tensor:
    return torch.randn(num_groups, 2, D, generator=torch.Generator().manual_seed(0)).requires_grad_()


def seconds(loss: Loss, z: Tensor) -> float:
    start = time.perf_counter()
    loss(z).backward()
    return time.perf_counter() - start


def peak() -> float:
    """Peak resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def extra_memory(name: str, num_groups: int) -> float:
    """MiB that one loss with its gradient adds to the peak of a fresh process."""
    command = [sys.executable, __file__, "--only", name, "--groups", str(num_groups)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--groups", type=int, default=4096, help="for the memory")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--only", choices=LOSSES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        LOSSES[arguments.only](representations(8)).backward()  # what any first loss loads is not counted
        z = representations(arguments.groups)
        before = peak()
        LOSSES[arguments.only](z).backward()
        print(peak() - before)
        return
    z = representations(512)
    times: dict[str, list[float]] = {name: [] for name in LOSSES}
    for _ in range(5 + arguments.steps):
        for name, loss in LOSSES.items():
            times[name].append(seconds(loss, z))
    times = {name: values[5:] for name, values in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, times["lightly"], strict=True))
        for name, values in times.items()
    }
    memory = {name: extra_memory(name, arguments.groups) for name in LOSSES}
    result = {
        "milliseconds_512": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "ratio_512": ratios,
        f"extra_memory_mib_{arguments.groups}": memory,
        "steps": arguments.steps,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(f"| | ms at N = 512 | ratio | extra MiB at N = {arguments.groups} |\n|---|---|---|---|")
    for name in LOSSES:
        print(f"| {name} | {result['milliseconds_512'][name]:.1f} | {ratios[name]:.2f} | {memory[name]:.0f} |")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
