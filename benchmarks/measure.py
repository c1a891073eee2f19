"""What the benchmarks share: turns taken in one process, ratios turn by turn, peak memory, the machine, tables."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

Work = Callable[[], object]
Times = dict[str, list[float]]

PACKAGES = ("torch", "pyro-ppl", "lightning", "numpy")
"""Packages whose versions every result names."""


def seconds(work: Work) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(
    works: Mapping[str, Work], rounds: int, warm_up: int = 0, clock: Callable[[Work], float] = seconds
) -> Times:
    """Seconds of each work in each round. The one that goes first moves on by one every second round, and every other
    round goes backwards: what follows another finds its caches.

    Args:
        works: what is measured, by name.
        rounds: times that each is measured.
        warm_up: calls of each beforehand, not measured.
        clock: how a work is timed.
    """
    for work in works.values():
        for _ in range(warm_up):
            work()
    times: Times = {name: [] for name in works}
    for i in range(rounds):
        for name in turn(list(works), i):
            times[name].append(clock(works[name]))
    return times


def turn(names: Sequence[str], i: int) -> list[str]:
    """The order of round i."""
    first = i // 2 % len(names)
    rotated = [*names[first:], *names[:first]]
    return rotated[::-1] if i % 2 else rotated


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and the quantiles at 5 and 95 %."""
    low, median, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
    return {"median": median, "5%": low, "95%": high}


def ratio(times: Times, name: str, over: str) -> dict[str, float]:
    """The spread of one's seconds over another's, round by round: what slows a whole round down cancels."""
    return spread([a / b for a, b in zip(times[name], times[over], strict=True)])


def peak_memory(command: Sequence[str | Path]) -> float:
    """Peak resident memory of `python COMMAND`, MiB. The command prints it last (`peak_memory_now`)."""
    return float(
        subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout.split()[-1]
    )


def peak_memory_now() -> float:
    """Peak resident memory of this process so far, MiB. Not `getrusage`'s: a child's begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def machine(*packages: str) -> dict[str, Any]:
    """CPU, cores and threads in use, and versions of Python, of `PACKAGES` and of the packages named."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *packages)},
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: names to the left, figures to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: Mapping[str, float], digits: int = 2) -> str:
    """Median and quantiles, as a table has them."""
    return f"{value['median']:.{digits}f} ({value['5%']:.{digits}f}-{value['95%']:.{digits}f})"


def report(result: Mapping[str, Any], tables: Iterable[str], out: Path | None, packages: Sequence[str] = ()) -> None:
    """Prints the tables below a line on the machine, and writes the result with the machine as JSON.

    Args:
        result: figures.
        tables: Markdown.
        out: the JSON file, or None.
        packages: whose versions matter besides.
    """
    where = machine(*packages)
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    print(f"\n{where['cpu']}, {where['cores']} cores, {where['threads']} threads; {versions}.\nMedian (5-95 %).\n")
    print("\n\n".join(tables))
    if out:
        out.write_text(json.dumps({"machine": where, **result}, indent=2) + "\n", encoding="utf-8")
