"""What the explicit Pyro program costs: an SVI step of ours, of plain Pyro, and of hand-written PyTorch.

    python benchmarks/step_time.py [--sizes mlp digits resnet18] [--rounds 200] [--out step_time.json]

All make steps of the same objective on the same networks, J = 2, Bernoulli likelihood, and read the loss each step, as
a loop does that logs it:

    ours              the step of `pyro-simvae fit` from the views on, ledger, finiteness check and all, as a graph
    ours, eager       the same with `--hardware.engine eager`, which runs the program at each step
    ours, compiled    the same with `--hardware.engine compile`
    by hand           the collapsed objective in PyTorch, fused AdamW
    by hand, compiled the same under torch.compile
    SVI               `pyro.infer.SVI.step` with `Trace_ELBO` and Pyro's Adam on our pair, Pyro's checks off
    SVI, jit          the same with `JitTrace_ELBO`

The first step, in which some capture or compile, is reported apart.

They take turns in one process; a ratio is the median of the ratios, step by step. Peak memory is that of processes that
differ in the step only. Views are the same random pixels each step: the data path is no part of it.
"""

import argparse
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from measure import figure, peak_memory, peak_memory_now, ratio, report, spread, table, take_turns
from pyro.infer import ELBO, JitTrace_ELBO, Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.settings import Engine, Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP, Network, ResNet18

STYLE = 0.39
LEARNING_RATE = 1e-3
Step = Callable[[Tensor], float]
"""Makes a step on views (N, J, *event). Returns the loss, nats a group."""


@dataclass(frozen=True)
class Size:
    """A network on views of one shape, how many rounds of steps tell its time, and kinds of step that it is without."""

    network: Network
    event_shape: tuple[int, int, int]
    latent_dim: int
    rounds: int
    num_groups: int = 64
    num_views: int = 2
    without: tuple[str, ...] = ()

    def views(self) -> Tensor:
        """`(N, J, *event)`, a fifth of the pixels 1."""
        shape = self.num_groups, self.num_views, *self.event_shape
        return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.8).float()

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder, with the same weights every time."""
        torch.manual_seed(0)
        parts = self.network.encoder, self.network.decoder
        encoder, decoder = (part(self.event_shape, self.latent_dim) for part in parts)
        return encoder, decoder

    def pair(self) -> tuple[SimVAE, MeanField]:
        """The story and its guide."""
        encoder, decoder = self.networks()
        model = SimVAE(Bernoulli(decoder), self.latent_dim, style_scale=STYLE)
        return model, MeanField(model, encoder)


SIZES = {
    "mlp": Size(MLP(), (1, 28, 28), 10, rounds=200),
    "digits": Size(MLP((128,)), (1, 8, 8), 10, rounds=2000),
    "resnet18": Size(
        ResNet18(), (3, 32, 32), 64, rounds=6, without=("ours, compiled", "by hand, compiled", "SVI, jit")
    ),
}
"""The paper's MLP on MNIST, a model of scikit-learn's digits, where overhead shows, and ResNet-18 on CIFAR-10, which
torch's compiler takes minutes for and Pyro's jit cannot trace."""


def ours(size: Size, engine: Engine = "graph") -> Step:
    split = MemorySplit(torch.zeros(size.num_groups, *size.event_shape, dtype=torch.uint8), None)
    views = Views(preset("none"), size.event_shape)
    training = Training(num_groups=size.num_groups, num_views=size.num_views, learning_rate=LEARNING_RATE)
    fabric = fabric_of(Hardware("cpu"))
    svi = SVI(LedgerELBO(*size.pair()), split, split, views, training, fabric, Path(), engine=engine)

    def step(x: Tensor) -> float:
        ledger = svi.update.on_views(x, {})
        svi._add(ledger, len(x))
        # The loop has read the objective already, to check that it is finite.
        return -ledger.objective.item() / len(x)

    return step


def collapsed(
    encoder: nn.Module, decoder: nn.Module, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Callable[[Tensor], Tensor]:
    """The collapsed objective of views `(N, J, *event)`, nats a group, as one would write it without Pyro."""

    def objective(x: Tensor) -> Tensor:
        with autocast():
            loc, scale = encoder(x)  # float32, as the encoder gives them
            noise = torch.randn_like(loc)
            z = loc + scale * noise
            logits = decoder(z).float()
        num_views, variance = x.shape[1], STYLE**2
        total = variance + num_views
        constant = z.shape[-1] * ((num_views - 1) * math.log(variance) + math.log(total)) / 2
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        log_q = -(0.5 * noise.square() + scale.log()).sum()
        mean = z.mean(1, keepdim=True)
        nats = (z - mean).square().sum() / (2 * variance) + mean.square().sum() * (num_views / (2 * total))
        return (reconstruction + log_q + nats) / len(x) + constant

    return objective


def by_hand(size: Size, compiled: bool = False) -> Step:
    """The step without Pyro."""
    encoder, decoder = size.networks()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    objective = collapsed(encoder, decoder)
    loss_of = torch.compile(objective) if compiled else objective

    def step(x: Tensor) -> float:
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def plain(size: Size, elbo: ELBO, name: str) -> Step:
    """Pyro's own loop on our pair."""
    pair = size.pair()
    for module in pair:  # the parameters of two pairs share one global store
        module._pyro_set_supermodule(name, module._pyro_context)
    svi = pyro.infer.SVI(*pair, pyro.optim.Adam({"lr": LEARNING_RATE}), elbo)
    return lambda x: svi.step(x) / len(x)


STEPS: dict[str, Callable[[Size], Step]] = {
    "ours": ours,
    "ours, eager": lambda size: ours(size, "eager"),
    "ours, compiled": lambda size: ours(size, "compile"),
    "by hand": by_hand,
    "by hand, compiled": lambda size: by_hand(size, compiled=True),
    "SVI": lambda size: plain(size, Trace_ELBO(), "plain"),
    "SVI, jit": lambda size: plain(size, JitTrace_ELBO(ignore_jit_warnings=True), "jit"),
}


RATIOS = {
    "ours / by hand": ("ours", "by hand"),
    "ours, eager / by hand": ("ours, eager", "by hand"),
    "ours, compiled / by hand": ("ours, compiled", "by hand"),
    "by hand, compiled / by hand": ("by hand, compiled", "by hand"),
    "SVI / ours": ("SVI", "ours"),
    "SVI, jit / ours": ("SVI, jit", "ours"),
}


def measure(name: str, kinds: Sequence[str], rounds: int | None) -> dict[str, Any]:
    """Milliseconds, ratios, seconds of the first step, and peak memory, for all kinds of step on one size.

    Exits if the steps do not begin from one loss, up to their draws (a compiled step has its own).
    """
    size = SIZES[name]
    kinds = [kind for kind in kinds if kind not in size.without]
    x = size.views()
    pyro.clear_param_store()
    steps = {kind: make(size) for kind, make in STEPS.items() if kind in kinds}
    first, losses = {}, {}
    for kind, step in steps.items():
        torch.manual_seed(1)
        start = time.perf_counter()
        losses[kind] = step(x)
        first[kind] = time.perf_counter() - start
    if max(losses.values()) - min(losses.values()) > 0.03 * abs(min(losses.values())):
        raise SystemExit(f"{name}: the steps differ in their objective, in nats a group: {losses}")
    rounds = rounds or size.rounds
    works = {kind: partial(step, x) for kind, step in steps.items()}
    times = take_turns(works, rounds, warm_up=min(20, rounds // 3))
    memory = {kind: peak_memory([__file__, "--only", kind, "--sizes", name]) for kind in ("ours", "by hand")}
    return {
        "rounds": rounds,
        "milliseconds": {kind: spread([1e3 * t for t in values]) for kind, values in times.items()},
        "ratios": {label: ratio(times, *pair) for label, pair in RATIOS.items() if {*pair} <= {*kinds}},
        "first_step_seconds": first,
        "peak_memory_mib": memory,
        "peak_memory_ratio": memory["ours"] / memory["by hand"],
    }


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    def rows(key: str, labels: Iterable[str], show: Callable[[Any], str]) -> list[list[str]]:
        of_sizes = [result[key] for result in results.values()]
        found = [label for label in labels if any(label in of_size for of_size in of_sizes)]
        return [[label, *(show(each[label]) if label in each else "" for each in of_sizes)] for label in found]

    return [
        table(["step, ms", *results], rows("milliseconds", STEPS, figure)),
        table(["ratio, step by step", *results], rows("ratios", RATIOS, partial(figure, digits=3))),
        table(["first step, s", *results], rows("first_step_seconds", STEPS, "{:.1f}".format)),
        table(["peak memory, MiB", *results], rows("peak_memory_mib", ["ours", "by hand"], "{:.0f}".format)),
    ]


def main() -> None:
    # Lightning has torch look for a GPU's driver at each optimizer step; a script written by hand does not.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=STEPS, default=list(STEPS), help="which steps; all by default")
    parser.add_argument("--rounds", type=int, help="steps of each; by default as many as the size needs")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--only", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pyro.enable_validation(False)  # as `fit` does after the first batch
    fabric_of(Hardware("cpu"))  # so that all steps keep freed memory, not ours only
    warnings.filterwarnings("ignore", "`torch.jit.trace` is deprecated")
    if arguments.only:
        size = SIZES[arguments.sizes[0]]
        step, x = STEPS[arguments.only](size), size.views()
        for _ in range(3):
            step(x)
        print(peak_memory_now())
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # an empty one, or an earlier run's code would be found
        results = {name: measure(name, arguments.kinds, arguments.rounds) for name in arguments.sizes}
    report({"sizes": results}, tables(results), arguments.out)


if __name__ == "__main__":
    main()
