"""Where the time of a CPU step goes: ours, the hand-written one, and what lies between them.

    python benchmarks/profile_step.py [--sizes mlp digits] [--out profile_step.json]

Wall time is measured without a profiler, turn by turn. Under torch.profiler each operator's own time is known: matrix
products, elementwise operators and reductions, the optimizer, the autograd engine; what they leave of the profiled step
is Python: of ours the replayed graph's own lines, by hand torch's modules. These shares are given in milliseconds of
the unprofiled step, and so is the gap between the two. cProfile tells whose functions the Python of our step is.
Both profilers slow small pieces down most, so that the shares of Python and of small operators are upper bounds.

The floor is what encoder and decoder take alone, forwards and backwards on fixed inputs, for ResNet-18 too.
"""

import argparse
import cProfile
import os
import pstats
import statistics
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pyro
from measure import Work, report, seconds, table, take_turns
from step_time import SIZES, by_hand, ours
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

GROUPS = {
    "matrix products": (
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
        "aten::linear",
        "aten::matmul",
        "mkldnn",
        "convolution",
    ),
    "optimizer": ("aten::_fused_adamw_", "Optimizer."),
    "autograd engine": ("autograd::", "Backward", "AccumulateGrad"),
}
"""Parts of the names of a group's operators; all other operators are the elementwise ones."""
ELEMENTWISE, PYTHON = "elementwise and reductions", "Python"
ORDER = ("matrix products", ELEMENTWISE, "optimizer", "autograd engine", PYTHON)
PACKAGES = ("pyro_simvae", "pyro", "torch/distributions", "torch/nn", "torch/optim", "torch", "lightning")


def group_of(operator: str) -> str:
    found = (group for group, parts in GROUPS.items() if any(part in operator for part in parts))
    return next(found, ELEMENTWISE)


def shares_of(work: Work, steps: int) -> dict[str, float]:
    """The share of each group in a profiled step; operators without those that they call."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        total = seconds(lambda: [work() for _ in range(steps)])
    shares = dict.fromkeys(ORDER, 0.0)
    for event in profiled.key_averages():
        shares[group_of(event.key)] += event.self_cpu_time_total / 1e6 / total
    shares[PYTHON] = 1.0 - sum(shares.values())
    return shares


def package_of(path: str) -> str:
    """Whose function it is. Built-in ones are torch's operators, for the most part."""
    if path == "~":
        return "built in (torch's operators)"
    parts = path.replace("links/pyro_simvae", "site-packages/pyro_simvae").rpartition("site-packages/")
    inside = (package for package in PACKAGES if parts[2].startswith(f"{package}/"))
    return next(inside, "pyro_simvae" if "pyro_simvae" in path else "Python's own and benchmarks")


def functions(work: Work, steps: int) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Share of each package in the time of a step under cProfile, and the functions with most time of their own."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(steps):
        work()
    profiler.disable()
    entries: Any = pstats.Stats(profiler)
    total, shares, each = entries.total_tt, defaultdict(float), []
    for (path, line, name), (_, _, own, _, _) in entries.stats.items():
        package = package_of(path)
        shares[package] += own / total
        where = name if path == "~" else f"{package}: {Path(path).name}:{line} {name}"
        each.append((where, own / total))
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return ordered, sorted(each, key=lambda item: -item[1])[:15]


def floor_of(name: str) -> dict[str, float]:
    """Milliseconds of our step, and of its networks alone; the operations in their products and convolutions."""
    size = SIZES[name]
    x = size.views()
    encoder, decoder = size.networks()

    def networks() -> None:
        loc, scale = encoder(x)
        decoder(loc + scale).sum().backward()
        encoder.zero_grad()
        decoder.zero_grad()

    with FlopCounterMode(display=False) as counter:
        networks()
    times = take_turns({"step": partial(ours(size), x), "networks": networks}, max(5, size.rounds // 10), warm_up=2)
    milliseconds = {work: 1e3 * statistics.median(values) for work, values in times.items()}
    return {"gflop": counter.get_total_flops() / 1e9, **milliseconds}


def measure(name: str) -> dict[str, Any]:
    """The split of both steps, of the gap, and the Python of ours."""
    size = SIZES[name]
    x = size.views()
    works = {"ours": partial(ours(size), x), "by hand": partial(by_hand(size), x)}
    times = take_turns(works, size.rounds // 2, warm_up=20)
    wall = {kind: 1e3 * statistics.median(values) for kind, values in times.items()}
    steps = max(20, size.rounds // 10)
    groups = {
        kind: {group: share * wall[kind] for group, share in shares_of(work, steps).items()}
        for kind, work in works.items()
    }
    shares, top = functions(works["ours"], steps)
    gap = {group: groups["ours"][group] - groups["by hand"][group] for group in ORDER}
    return {"milliseconds": wall, "groups": groups, "gap": gap, "python_shares": shares, "functions": top}


def tables(name: str, result: dict[str, Any]) -> list[str]:
    both, gap = result["groups"], result["gap"]
    lines = [[group, *(f"{both[kind][group]:.3f}" for kind in both), f"{gap[group]:+.3f}"] for group in ORDER]
    wall = result["milliseconds"]
    lines.append(["whole step", *(f"{ms:.3f}" for ms in wall.values()), f"{wall['ours'] - wall['by hand']:+.3f}"])
    shares = [[package, f"{100 * share:.1f} %"] for package, share in result["python_shares"].items()]
    top = [[f"`{where}`", f"{100 * share:.1f} %"] for where, share in result["functions"]]
    return [
        table([f"{name}, ms a step", "ours", "by hand", "gap"], lines),
        table([f"{name}: ours under cProfile, functions of", "share"], shares),
        table([f"{name}: function", "share, without what it calls"], top),
    ]


def main() -> None:
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as in step_time.py
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["mlp", "digits"])
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    pyro.enable_validation(False)  # as `fit` does after the first batch
    results = {name: measure(name) for name in arguments.sizes}
    lines = [each for name, result in results.items() for each in tables(name, result)]
    floors = {name: floor_of(name) for name in SIZES}
    rows = [
        [
            name,
            f"{found['gflop']:.3g}",
            f"{found['networks']:.3g}",
            f"{1e3 * found['gflop'] / found['networks']:.0f}",
            f"{found['step']:.3g}",
            f"{found['networks'] / found['step']:.0%}",
        ]
        for name, found in floors.items()
    ]
    header = ["", "GFLOP a step", "networks alone, ms", "GFLOP/s", "step, ms", "networks / step"]
    report({"sizes": results, "floors": floors}, [*lines, table(header, rows)], arguments.out)


if __name__ == "__main__":
    main()
