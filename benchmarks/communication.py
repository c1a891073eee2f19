"""What many devices cost: the tables of docs/devices.md, from formulas and from the steps that processes.py measured.

    python benchmarks/processes.py --out processes.json
    python benchmarks/communication.py processes.json [--gpu gpu.json]

gpu.json is what gpu.py wrote, where GPU figures are at hand.
"""

import argparse
import json
from pathlib import Path
from typing import Any

LINKS = {"NVLink, 450 GB/s": 450e9, "100 GbE, 12.5 GB/s": 12.5e9, "10 GbE, 1.25 GB/s": 1.25e9}
"""Bytes a second of one device's share of the link."""
DEVICES = (8, 64, 512)
GROUPS, VIEWS, DIM, PROTOTYPES = 256, 2, 128, 512
"""Of the table of limits: N groups a device, J, D, and clusters K."""


def all_reduce_seconds(size: float, devices: int, bandwidth: float) -> float:
    """A ring: each device sends 2 (W - 1) / W times the bytes."""
    return 2 * (devices - 1) / devices * size / bandwidth


def gradients(steps: dict[str, tuple[int, float]]) -> None:
    """The all-reduce of gradients beside the step of one device.

    Args:
        steps: by name, bytes of the gradients and seconds of one device's step.
    """
    devices = DEVICES[-1]
    print(f"| | bytes a step | compute, ms | {' | '.join(f'{link}: ms, share' for link in LINKS)} |")
    print(f"|---|---|---|{'---|' * len(LINKS)}")
    for name, (size, seconds) in steps.items():
        sent = [all_reduce_seconds(size, devices, bandwidth) for bandwidth in LINKS.values()]
        cells = [f"{1e3 * each:.2f}, {100 * each / seconds:.1f} %" for each in sent]
        print(f"| {name} | {size / 1e6:.1f} MB | {1e3 * seconds:.0f} | {' | '.join(cells)} |")


def limits() -> None:
    """What the batch-wide limits do on each device, for W devices of N groups each."""
    rows = GROUPS * VIEWS
    print("| devices | groups | gathered rows | kernel of own rows | made of it | D² limits | Sinkhorn's scores |")
    print("|---|---|---|---|---|---|---|")
    for devices in DEVICES:
        all_rows = devices * rows
        print(
            f"| {devices} | {devices * GROUPS:,} | {4 * all_rows * DIM / 1e6:.1f} MB "
            f"| {4 * rows * all_rows / 1e6:.1f} MB | {2 * rows * all_rows * DIM / 1e9:.1f} GFLOP "
            f"| {4 * DIM**2 / 1e6:.2f} MB, {2 * all_rows * DIM**2 / 1e9:.1f} GFLOP "
            f"| {4 * all_rows * PROTOTYPES / 1e6:.1f} MB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="what processes.py wrote")
    parser.add_argument("--gpu", type=Path, help="steps of one GPU")
    arguments = parser.parse_args()
    measured: dict[str, Any] = json.loads(arguments.measured.read_text())
    cases = measured["cases"]
    steps = {
        f"{name}, one thread": (found["bytes_all_reduced"], found["seconds_a_step"]["one"])
        for name, found in cases.items()
    }
    if arguments.gpu:
        gpu = json.loads(arguments.gpu.read_text())
        for name, size in gpu["sizes"].items():
            if not isinstance(size["steps"], dict):  # the message of what failed
                continue
            milliseconds = size["steps"]["milliseconds"]["ours"]["median"]
            sent = next(found["bytes_all_reduced"] for case, found in cases.items() if case.startswith(name))
            steps[f"{name}, {gpu['device']}"] = sent, milliseconds / 1e3
    print(f"Gradients, {DEVICES[-1]} devices; compute: {measured['machine']}, torch {measured['torch']}\n")
    gradients(steps)
    print(f"\nLimits, N = {GROUPS} groups a device, J = {VIEWS}, D = {DIM}, K = {PROTOTYPES}, float32\n")
    limits()


if __name__ == "__main__":
    main()
