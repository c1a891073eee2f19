"""Everything that is measured on a GPU, in one command of less than ten minutes. It ends with a message where none is.

    python benchmarks/gpu.py [--out gpu.json] [--seconds 3]

Two sizes, J = 2, images of random pixels as uint8 on the device, augmentation included in every step:

    mlp        the paper's MLP on 60,000 images of 28 x 28, 64 groups a step, float32, preset mnist_paper
    resnet18   ResNet-18 and its mirrored decoder on 50,000 images of 32 x 32 x 3, 256 groups a step, bf16, cifar10

Kinds of step, which take turns in blocks; the GPU is waited for at the end of a block. All are on the GPU at once,
some tens of GB for resnet18:

    ours             the step of `pyro-simvae fit` (engine auto: one CUDA graph)
    ours, compiled   the same with `--hardware.engine compile`
    ours, eager      the same with `--hardware.engine eager`
    by hand, graph   the collapsed objective in PyTorch, captured as one CUDA graph
    by hand          the same without a graph
    SVI              `pyro.infer.SVI.step` with `Trace_ELBO` on our pair
    networks         encoder and decoder forwards and backwards on fixed inputs, as a CUDA graph: the most that the
                     device does of the step's matrix products

Then, for each size: an epoch of `fit` (with validation and checkpoints, and its steps alone), how long the GPU is busy
during steps, its kernels by time, and the largest difference of the losses of graph and eager steps.
"""

import argparse
import gc
import io
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from lightning.fabric import Fabric
from measure import figure, ratio, report, spread, table, take_turns
from rich.console import Console
from step_time import STYLE, collapsed
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.errors import first_line
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.cuda_graph import CUDAGraph
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Engine, Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP, Network, ResNet18

VIEWS, LEARNING_RATE = 2, 1e-3
Block = Callable[[int], None]
"""Makes so many steps."""


@dataclass(frozen=True)
class Size:
    """A network, its data and its batch."""

    network: Network
    event_shape: tuple[int, int, int]
    latent_dim: int
    num_images: int
    num_groups: int
    precision: Literal["32", "bf16-mixed"]
    views: str

    def images(self, device: torch.device) -> Tensor:
        """uint8 `(M, C, H, W)`."""
        generator = torch.Generator().manual_seed(0)
        shape = self.num_images, *self.event_shape
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder, with the same weights every time."""
        torch.manual_seed(0)
        parts = self.network.encoder, self.network.decoder
        encoder, decoder = (part(self.event_shape, self.latent_dim) for part in parts)
        return encoder, decoder

    def pair(self) -> tuple[SimVAE, MeanField]:
        encoder, decoder = self.networks()
        model = SimVAE(Bernoulli(decoder), self.latent_dim, style_scale=STYLE)
        return model, MeanField(model, encoder)

    def loop(self, fabric: Fabric, images: Tensor, engine: Engine, folder: Path) -> SVI:
        """The loop of `fit`; a tenth of as many images to validate on."""
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        splits = MemorySplit(images), MemorySplit(images[: len(images) // 10])
        training = Training(num_groups=self.num_groups, num_views=VIEWS, learning_rate=LEARNING_RATE)
        views = Views(preset(self.views), self.event_shape)
        return SVI(LedgerELBO(*self.pair()), *splits, views, training, fabric, folder, engine=engine)


SIZES = {
    "mlp": Size(MLP(), (1, 28, 28), 10, 60_000, 64, "32", "mnist_paper"),
    "resnet18": Size(ResNet18(), (3, 32, 32), 64, 50_000, 256, "bf16-mixed", "cifar10"),
}


# -- kinds of step ---------------------------------------------------------------------------------------------------


def ours(size: Size, fabric: Fabric, images: Tensor, folder: Path, engine: Engine) -> Block:
    svi = size.loop(fabric, images, engine, folder / engine)
    svi.elbo.train()
    batch = images[: size.num_groups, None]

    def block(steps: int) -> None:
        with pyro.validation_enabled(False):
            for _ in range(steps):
                svi._step(batch)
        if engine != "eager" and svi.update.eager_because:
            raise RuntimeError(f"no CUDA graph: {svi.update.eager_because}")

    return block


def by_hand(size: Size, fabric: Fabric, images: Tensor, graph: bool) -> Block:
    """The collapsed objective, as one would write it without Pyro, from uint8 images to moved weights."""
    encoder, decoder = (part.to(fabric.device, memory_format=torch.channels_last) for part in size.networks())
    parameters = [*encoder.parameters(), *decoder.parameters()]
    rate = torch.tensor(LEARNING_RATE, device=fabric.device)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, fused=True, capturable=True)
    views = Views(preset(size.views), size.event_shape)
    objective = collapsed(encoder, decoder, fabric.autocast)

    def step(images: Tensor, uniforms: Tensor) -> Tensor:
        x, _ = views.augment(images, uniforms, VIEWS)
        loss = objective(x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    batch = images[: size.num_groups, None]
    run = CUDAGraph(step) if graph else lambda inputs: step(*(x.to(fabric.device, non_blocking=True) for x in inputs))

    def block(steps: int) -> None:
        for _ in range(steps):
            run([batch, views.draw(len(batch), VIEWS).pin_memory()])

    return block


def plain(size: Size, fabric: Fabric, images: Tensor) -> Block:
    """Pyro's own loop on our pair."""
    pyro.clear_param_store()
    model, guide = (part.to(fabric.device, memory_format=torch.channels_last) for part in size.pair())
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), pyro.infer.Trace_ELBO())
    views = Views(preset(size.views), size.event_shape)
    batch = images[: size.num_groups, None]

    def block(steps: int) -> None:
        with pyro.validation_enabled(False):
            for _ in range(steps):
                x, _ = views(batch, VIEWS)
                with fabric.autocast():  # anew at each step, for it keeps the casts of weights
                    svi.step(x)

    return block


def networks(size: Size, fabric: Fabric, images: Tensor) -> Block:
    """Encoder and decoder alone, forwards and backwards."""
    encoder, decoder = (part.to(fabric.device, memory_format=torch.channels_last) for part in size.networks())
    x = torch.rand(size.num_groups, VIEWS, *size.event_shape, device=fabric.device)

    def step(x: Tensor) -> Tensor:
        with fabric.autocast():
            loc, scale = encoder(x)
            out = decoder(loc + scale)
        out.float().sum().backward()
        for part in (encoder, decoder):
            part.zero_grad()
        return out

    run = CUDAGraph(step)

    def block(steps: int) -> None:
        for _ in range(steps):
            run([x])

    return block


# First those without a CUDA graph: a capture that fails can break the device's random numbers for what comes after it.
KINDS: dict[str, Callable[[Size, Fabric, Tensor, Path], Block]] = {
    "SVI": lambda size, fabric, images, _: plain(size, fabric, images),
    "by hand": lambda size, fabric, images, _: by_hand(size, fabric, images, graph=False),
    "ours, eager": partial(ours, engine="eager"),
    "networks": lambda size, fabric, images, _: networks(size, fabric, images),
    "by hand, graph": lambda size, fabric, images, _: by_hand(size, fabric, images, graph=True),
    "ours": partial(ours, engine="auto"),
    "ours, compiled": partial(ours, engine="compile"),
}
RATIOS = {
    "SVI / ours": ("SVI", "ours"),
    "ours, eager / ours": ("ours, eager", "ours"),
    "ours / by hand, graph": ("ours", "by hand, graph"),
    "ours, compiled / by hand, graph": ("ours, compiled", "by hand, graph"),
    "networks / ours": ("networks", "ours"),
}


# -- measurements ----------------------------------------------------------------------------------------------------


def waited(work: Callable[[], object]) -> float:
    """Seconds from an idle GPU to an idle GPU."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def steps_of(size: Size, fabric: Fabric, images: Tensor, folder: Path, seconds: float) -> dict[str, Any]:
    """Milliseconds a step of each kind, ratios, memory, and what fails with its message."""
    blocks: dict[str, Block] = {}
    failed: dict[str, str] = {}
    memory: dict[str, float] = {}
    counts: dict[str, int] = {}
    for kind, make in KINDS.items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            block = make(size, fabric, images, folder)
            block(10)
            counts[kind] = max(5, int(seconds / waited(partial(block, 10))))
        except Exception as error:  # one kind that fails leaves the others to measure
            failed[kind] = f"{type(error).__name__}: {first_line(error)}"
            continue
        blocks[kind] = block
        memory[kind] = (torch.cuda.max_memory_allocated() - before) / 2**20
    works = {kind: partial(block, counts[kind]) for kind, block in blocks.items()}
    times = take_turns(works, 10, clock=waited) if works else {}
    times = {kind: [t / counts[kind] for t in values] for kind, values in times.items()}
    return {
        "milliseconds": {kind: spread([1e3 * t for t in values]) for kind, values in times.items()},
        "ratios": {label: ratio(times, *pair) for label, pair in RATIOS.items() if {*pair} <= times.keys()},
        "memory_mib": memory,
        "failed": failed,
    }


def epochs_of(size: Size, fabric: Fabric, images: Tensor, folder: Path) -> dict[str, Any]:
    """Seconds of whole epochs of `fit`, and of their steps alone."""
    svi = size.loop(fabric, images, "auto", folder / "epochs")
    whole, steps = [], []

    class Clock(Progress):
        def epoch(self, row: dict[str, float], epochs: int, rate: float) -> None:
            steps.append(svi.steps_per_epoch * size.num_groups / rate)

    clock = Clock(Console(file=io.StringIO()), 1)
    for epoch in range(4):
        svi.training = svi.update.training = Training(
            epochs=epoch + 1, num_groups=size.num_groups, num_views=VIEWS, learning_rate=LEARNING_RATE
        )
        torch.cuda.synchronize()
        start = time.perf_counter()
        svi.run(clock)
        whole.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(whole[1:]),
        "steps_alone": statistics.median(steps[1:]),
        "groups": svi.steps_per_epoch * size.num_groups,
        "engine": svi.update.eager_because or "graph",
    }


def busy_of(size: Size, fabric: Fabric, images: Tensor, folder: Path) -> dict[str, Any]:
    """The share of an epoch's steps, batches included, in which the GPU works, and its kernels by time a step.

    The profiler stretches the gaps between short kernels, so that the share is a lower bound.
    """
    svi = size.loop(fabric, images, "auto", folder / "busy")
    svi.elbo.train()
    order = torch.randperm(len(images))[: 110 * size.num_groups]
    batches = svi.train.batches(order, size.num_groups, VIEWS)
    steps = 0

    def go_on(count: int) -> None:
        nonlocal steps
        for batch in islice(batches, count):
            svi._step(batch.images)
            steps += 1
        torch.cuda.synchronize()

    with pyro.validation_enabled(False):
        go_on(10)
        steps = 0
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
            go_on(100)
    spans, kernels = [], defaultdict(float)
    for event in profiled.profiler.kineto_results.events():
        if event.device_type() == torch.autograd.DeviceType.CUDA and event.duration_ns() > 0:
            spans.append((event.start_ns(), event.start_ns() + event.duration_ns()))
            kernels[event.name()] += event.duration_ns() / 1e6 / steps
    spans.sort()
    busy, end = 0, spans[0][0]
    for first, last in spans:
        busy += max(0, last - max(first, end))
        end = max(end, last)
    longest = sorted(kernels.items(), key=lambda each: -each[1])[:15]
    return {
        "busy": busy / (end - spans[0][0]),
        "kernels_a_step": len(spans) / steps,
        "milliseconds_by_kernel": {name[:90]: value for name, value in longest},
    }


def difference_of(size: Size, fabric: Fabric, images: Tensor, folder: Path, steps: int = 20) -> float:
    """The largest relative difference of the losses of graph and eager steps with the same draws."""
    losses = []
    for engine in ("graph", "eager"):
        svi = size.loop(fabric, images, engine, folder / f"same {engine}")
        torch.manual_seed(0)
        with pyro.validation_enabled(False):
            found = [svi._step(images[: size.num_groups, None]).objective.clone() for _ in range(steps)]
        losses.append(torch.stack(found))
    graph, eager = losses
    return float(((graph - eager) / eager).abs().max())


def flops_of(size: Size, fabric: Fabric) -> float:
    """Floating-point operations of the matrix products of a step."""
    encoder, decoder = (part.to(fabric.device) for part in size.networks())
    x = torch.rand(size.num_groups, VIEWS, *size.event_shape, device=fabric.device)
    with FlopCounterMode(display=False) as counter:
        loc, scale = encoder(x)
        decoder(loc + scale).sum().backward()
    return float(counter.get_total_flops())


def measure(name: str, seconds: float, folder: Path) -> dict[str, Any]:
    """All measurements of one size; one that fails leaves its message."""
    size = SIZES[name]
    fabric = fabric_of(Hardware("cuda", size.precision))
    images = size.images(fabric.device)
    result: dict[str, Any] = {"precision": size.precision, "groups_a_step": size.num_groups}
    parts: dict[str, Callable[[], Any]] = {
        "steps": lambda: steps_of(size, fabric, images, folder, seconds),
        "epoch": lambda: epochs_of(size, fabric, images, folder),
        "gpu": lambda: busy_of(size, fabric, images, folder),
        "graph_against_eager": lambda: difference_of(size, fabric, images, folder),
        "flops_a_step": lambda: flops_of(size, fabric),
    }
    for part, work in parts.items():
        try:
            result[part] = work()
        except Exception as error:
            result[part] = f"failed: {type(error).__name__}: {first_line(error)}"
        gc.collect()  # loops hold their graphs, and graphs their loops
        torch.cuda.empty_cache()
    if isinstance(result["steps"], dict) and isinstance(result["flops_a_step"], float):
        milliseconds = result["steps"]["milliseconds"]
        result["tflops"] = {k: result["flops_a_step"] / v["median"] / 1e9 for k, v in milliseconds.items()}
    return result


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    for name, result in results.items():
        found.append(f"### {name}: {result['groups_a_step']} groups a step, {result['precision']}")
        steps = result["steps"]
        if isinstance(steps, dict):
            rows = [[k, figure(v, 3), f"{steps['memory_mib'][k]:.0f}"] for k, v in steps["milliseconds"].items()]
            rows += [[kind, why, ""] for kind, why in steps["failed"].items()]
            found.append(table(["kind of step", "ms", "MiB at most, first steps included"], rows))
            found.append(table(["ratio", ""], [[k, figure(v, 3)] for k, v in steps["ratios"].items()]))
        rest = {part: value for part, value in result.items() if part not in ("steps", "groups_a_step", "precision")}
        found.append("```json\n" + json.dumps(rest, indent=1) + "\n```")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=3.0, help="of steps of each kind")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing is measured")
        return
    device = torch.cuda.get_device_name()
    results: dict[str, Any] = {}
    for name in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, arguments.seconds, Path(folder))
        # After each size, so that what is measured stays if the next one fails.
        report({"device": device, "sizes": results}, [f"On one {device}.", *tables(results)], arguments.out)


if __name__ == "__main__":
    main()
