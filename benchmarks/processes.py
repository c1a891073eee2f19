"""What two processes gain: groups a second of two gloo processes of one thread each over those of one such process.

    python benchmarks/processes.py [--root data] [--blocks 7] [--out processes.json]

Both take the same joint batches through the whole step of `pyro-simvae fit`, views included: the paper's MLP on MNIST
(784-2000-500-500-2D and mirrored, D = 10), and ResNet-18 with its mirror on random images of CIFAR-10's shape (D = 64).
They take turns in blocks of steps, so that noise of the machine meets both; figures are medians over blocks. Where
others use the machine too, the gain in processor time (of one process over one of two) says more than that in time. The
all-reduce alone is that of a flat tensor of the gradients' size. `benchmarks/communication.py` reads the JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from lightning.fabric import Fabric
from torch import distributed

from pyro_simvae.components import build
from pyro_simvae.data import Split, Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.gather import alone
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.processes import launched
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli, Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP, ResNet18

VIEWS = 2
CASES = {
    "mlp": (10, 64, 10),
    "mlp, 256 groups": (10, 256, 5),
    "mlp, 1024 groups": (10, 1024, 2),
    "resnet18": (64, 64, 1),
}
"""D, groups a step, steps a block."""


def training_set(case: str, root: str) -> tuple[Split, str]:
    """Items, and the preset of their views."""
    if case.startswith("mlp"):
        return build("data", {"class_path": "mnist", "init_args": {"root": root}}).load().train, "mnist_paper"
    items = torch.randint(256, (2048, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return MemorySplit(items, None), "cifar10_paper"


def loop(case: str, split: Split, views: str, fabric: Fabric) -> SVI:
    torch.manual_seed(0)
    dim, num_groups, _ = CASES[case]
    network, family = (MLP(), Bernoulli) if case.startswith("mlp") else (ResNet18(), Normal)
    event = split.event_shape
    model = SimVAE(family(network.decoder(event, dim)), dim, style_scale=0.39)
    pair = LedgerELBO(model, MeanField(model, network.encoder(event, dim)))
    training = Training(num_groups=num_groups, learning_rate=1e-4)
    return SVI(pair, split, split, Views(preset(views), event), training, fabric, Path())


def steps(svi: SVI, count: int) -> None:
    """So many steps as the loop makes them."""
    batch = svi.training.num_groups
    order = svi.processes.own(torch.randperm(len(svi.train))[: count * batch], batch)
    with pyro.validation_enabled(False):  # as in `fit`
        for groups in svi.train.batches(order, svi.num_groups, VIEWS):
            svi._step(groups.images)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Time, and processor time of this process."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(case: str, root: str, blocks: int, fabric: Fabric) -> dict[str, Any]:
    split, views = training_set(case, root)
    _, num_groups, count = CASES[case]
    joint = loop(case, split, views, fabric)
    single = loop(case, split, views, Fabric(accelerator="cpu", devices=1))
    gradients = torch.zeros(sum(p.numel() for p in joint.elbo.parameters() if p.requires_grad))
    times: dict[str, list[tuple[float, float]]] = {"one": [], "two": [], "all_reduce": []}
    for block in range(blocks + 1):
        if fabric.global_rank == 0:
            with alone():
                times["one"].append(seconds(lambda: steps(single, count)))
        fabric.barrier()
        times["two"].append(seconds(lambda: steps(joint, count)))
        fabric.barrier()
        times["all_reduce"].append(seconds(lambda: distributed.all_reduce(gradients)))
        if block == 0:  # warm-up
            times = {name: [] for name in times}
    if fabric.global_rank:
        return {}
    of_step = {"one": count, "two": count, "all_reduce": 1}
    median = {name: statistics.median(time for time, _ in values) / of_step[name] for name, values in times.items()}
    pairs = list(zip(times["one"], times["two"], strict=True))
    ratios = [one[0] / two[0] for one, two in pairs]
    return {
        "groups": num_groups,
        "views": VIEWS,
        "parameters": len(gradients),
        "bytes_all_reduced": 4 * len(gradients),
        "seconds_a_step": median,
        "groups_a_second": {name: num_groups / median[name] for name in ("one", "two")},
        "speedup": {"median": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)},
        "speedup_in_processor_time": statistics.median(one[1] / two[1] for one, two in pairs),
    }


def work(arguments: argparse.Namespace) -> None:
    """One process of two."""
    torch.set_num_threads(1)
    fabric = fabric_of(Hardware("cpu", devices=2))
    with launched(fabric) as processes:
        cases = {case: measure(case, arguments.root, arguments.blocks, fabric) for case in arguments.cases}
        if processes.rank:
            return
    machine = f"{processor()}, {os.cpu_count()} cores"
    result = {"machine": machine, "torch": torch.__version__, "blocks": arguments.blocks, "cases": cases}
    print(f"{machine}, torch {torch.__version__}, one thread a process, medians of {arguments.blocks} blocks\n")
    columns = ["", "groups a step", "one process, groups/s", "two, groups/s", "gain (range)", "gain in processor time"]
    columns += ["a step, ms: one, two", "MB all-reduced, ms"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for case, found in cases.items():
        one, two = (found["groups_a_second"][name] for name in ("one", "two"))
        gain, cost = found["speedup"], {name: 1e3 * value for name, value in found["seconds_a_step"].items()}
        print(
            f"| {case} | {found['groups']} | {one:.0f} | {two:.0f} "
            f"| {gain['median']:.2f} ({gain['least']:.2f}-{gain['largest']:.2f}) "
            f"| {found['speedup_in_processor_time']:.2f} | {cost['one']:.0f}, {cost['two']:.0f} "
            f"| {found['bytes_all_reduced'] / 1e6:.1f}, {cost['all_reduce']:.1f} |"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where MNIST lies")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        work(arguments)
        return
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, __file__, *sys.argv[1:]], check=True, env=environment)


if __name__ == "__main__":
    main()
