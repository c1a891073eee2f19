"""What the explicit Pyro program costs: one SVI step of ours over one hand-written PyTorch step of the same objective.

    python benchmarks/step_time.py [--steps 200] [--out step_time.json]

Both use the paper's MLP (784-2000-500-500-2D, mirrored), D = 10, J = 2, 64 groups, Bernoulli likelihood, Adam.
They take turns in one process; the figure is the median of the ratios, step by step. Peak memory is that of
two processes that differ in the step only. Views are the same random pixels each step: the data path is no part of it.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.settings import Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP

EVENT, D, GROUPS, VIEWS, STYLE = (1, 28, 28), 10, 64, 2, 0.39
Step = Callable[[Tensor], object]


def views() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(GROUPS, VIEWS, *EVENT, generator=generator) > 0.8).float()


def ours() -> Step:
    """The step of `pyro-simvae fit`, ledger, finiteness check and all."""
    network = MLP()
    model = SimVAE(Bernoulli(network.decoder(EVENT, D)), D, style_scale=STYLE)
    elbo = LedgerELBO(model, MeanField(model, network.encoder(EVENT, D)))
    split = MemorySplit(torch.zeros(GROUPS, *EVENT, dtype=torch.uint8), None)
    fabric = Fabric(accelerator="cpu", devices=1)
    return SVI(elbo, split, split, Views(preset("none"), EVENT), Training(num_groups=GROUPS), fabric, Path())._step


def by_hand() -> Step:
    """The collapsed objective, as one would write it without Pyro."""
    network = MLP()
    encoder, decoder = network.encoder(EVENT, D), network.decoder(EVENT, D)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    log_style, total = torch.tensor(STYLE).log(), torch.tensor(STYLE**2 + VIEWS)

    def step(x: Tensor) -> object:
        loc, scale = encoder(x)
        noise = torch.randn_like(loc)
        z = loc + scale * noise
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        entropy = (0.5 * noise.square() + scale.log()).sum()
        mean = z.mean(1)
        spread = (z - mean.unsqueeze(1)).square().sum() / (2 * STYLE**2)
        prior = -spread - (VIEWS * mean.square() / (2 * total)).sum()
        prior = prior - GROUPS * D * ((VIEWS - 1) * log_style + total.log() / 2)
        loss = (reconstruction - entropy - prior) / GROUPS
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


STEPS = {"ours": ours, "by_hand": by_hand}


def seconds(step: Step, x: Tensor) -> float:
    start = time.perf_counter()
    step(x)
    return time.perf_counter() - start


def peak_memory(name: str, steps: int) -> float:
    """Peak resident memory of a process that makes so many steps of one kind, in MiB."""
    command = [sys.executable, __file__, "--only", name, "--steps", str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    # Lightning has torch look for a GPU's driver at each optimizer step; a script written by hand does not.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--only", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pyro.enable_validation(False)  # as `fit` does after the first batch
    torch.manual_seed(0)
    x = views()
    if arguments.only:
        step = STEPS[arguments.only]()
        for _ in range(arguments.steps):
            step(x)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return

    steps = {name: make() for name, make in STEPS.items()}
    for step in steps.values():
        for _ in range(20):
            step(x)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(arguments.steps):
        # Which one goes first alternates: the second finds warmer caches.
        for name in sorted(steps, reverse=bool(i % 2)):
            times[name].append(seconds(steps[name], x))
    ratios = [a / b for a, b in zip(times["ours"], times["by_hand"], strict=True)]
    low, median, high = (statistics.quantiles(ratios, n=20)[i] for i in (0, 9, 18))
    memory = {name: peak_memory(name, 10) for name in steps}
    result = {
        "step_ratio": {"median": median, "5%": low, "95%": high},
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "peak_memory_mib": memory,
        "peak_memory_ratio": memory["ours"] / memory["by_hand"],
        "steps": arguments.steps,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print("| | ours | by hand | ratio |\n|---|---|---|---|")
    print(
        f"| step, ms (median) | {result['milliseconds']['ours']:.1f} | {result['milliseconds']['by_hand']:.1f} "
        f"| {median:.3f} (5-95 %: {low:.3f}-{high:.3f}) |"
    )
    print(f"| peak memory, MiB | {memory['ours']:.0f} | {memory['by_hand']:.0f} | {result['peak_memory_ratio']:.3f} |")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
