"""Whole epochs, augmentation included: our fit loop, pythae's VAE trainer and a lightly SimCLR loop.

    python benchmarks/epoch.py [--root data] [--cifar10 FOLDER] [--only vae simclr simclr_resnet18] [--out epoch.json]

    vae              the paper's MLP on MNIST: ours fits SimVAE to 64 groups of J = 2 views a step, pythae a VAE to 128
                     images a step, so that a step encodes and decodes as many; to 64, its own default; and to 128
                     without augmentation
    simclr           the same encoder under the SimCLR limit, 64 groups a step, and lightly's NTXentLoss
    simclr_resnet18  the same with ResNet-18 on CIFAR-10; ours also in mixed precision (bf16)

The figure is views a second: images that went forwards and backwards through the networks, J an image for ours and
lightly, one an image for pythae. A round is an epoch of each over the same images.

Ours is `SVI.run`: views in batch, steps, validation on a tenth as many images, two checkpoints. pythae has the
configuration that it comes with (Adam, a loader in the main process) and the same validation; it draws its views image
by image by torchvision in its data set, and is timed from the beginning of an epoch to its end, without what it writes
after that. lightly's loop is its tutorial's, views image by image in two workers that stay between epochs; it neither
validates nor writes. Its optimizer is ours (fused AdamW). The augmentations are ours: crop, flip and threshold on
MNIST; crop, flip, colour jitter and grey on CIFAR-10.
"""

import argparse
import io
import os
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from measure import figure, ratio, report, spread, table, take_turns
from rich.console import Console
from rivals import MNIST_PAPER, TWO_CIFAR10, TWO_MNIST_PAPER, Epoch, lightly_simclr, pythae_vae
from torch import Tensor
from torchvision import datasets

from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.limits import simclr
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP, Decoder, Encoder, Network, ResNet18

GROUPS, VIEWS, LEARNING_RATE, TEMPERATURE = 64, 2, 1e-3, 0.5


@dataclass(frozen=True)
class Case:
    """Which network sees what.

    Args:
        data: mnist or cifar10.
        views: preset of ours.
        num_images: an epoch's.
        rounds: epochs of each.
        mixed: whether ours is measured in mixed precision too.
    """

    data: str
    views: str
    network: Network
    latent_dim: int
    num_images: int
    rounds: int
    mixed: bool = False

    def networks(self, event_shape: torch.Size) -> tuple[Encoder, Decoder]:
        torch.manual_seed(0)
        shape = tuple(event_shape)
        return self.network.encoder(shape, self.latent_dim), self.network.decoder(shape, self.latent_dim)


CASES = {
    "vae": Case("mnist", "mnist_paper", MLP(), 10, num_images=12_800, rounds=4),
    "simclr": Case("mnist", "mnist_paper", MLP(), 10, num_images=12_800, rounds=4),
    "simclr_resnet18": Case("cifar10", "cifar10", ResNet18(), 64, num_images=2048, rounds=3, mixed=True),
}

PYTHAE = [
    ("pythae, 128 images a step", GROUPS * VIEWS, MNIST_PAPER),
    ("pythae, 64 images a step", GROUPS, MNIST_PAPER),
    ("pythae, 128, no augmentation", GROUPS * VIEWS, None),
]
"""Name, batch size, augmentation."""


def read(data: str, count: int, root: str, cifar10: str | None) -> Tensor:
    """The first images of MNIST, or images of a folder: `(count, C, H, W)`, uint8; noise where no folder is given."""
    if data == "mnist":
        return datasets.MNIST(root, download=not (Path(root) / "MNIST").exists()).data[:count, None]
    if cifar10 is None:  # the time does not depend on what the pixels are
        return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    images = datasets.ImageFolder(Path(cifar10) / "train")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return torch.stack([torch.from_numpy(np.array(images[i][0])).permute(2, 0, 1) for i in chosen])


def ours(
    case: Case, train: Tensor, valid: Tensor, folder: Path, limited: bool, precision: Literal["32", "bf16-mixed"] = "32"
) -> Epoch:
    """An epoch of `pyro-simvae fit`, under the SimCLR limit or not."""
    encoder, decoder = case.networks(train.shape[1:])
    model: Any = SimVAE(Bernoulli(decoder), case.latent_dim, content_scale=float("inf") if limited else 1.0)
    guide: Any = MeanField(model, encoder)
    if limited:
        model, guide = simclr(TEMPERATURE)(model, guide)
    (folder / "checkpoints").mkdir(parents=True)
    splits = MemorySplit(train), MemorySplit(valid)
    views = Views(preset(case.views), tuple(train.shape[1:]))
    training = Training(num_groups=GROUPS, num_views=VIEWS, learning_rate=LEARNING_RATE)
    svi = SVI(LedgerELBO(model, guide), *splits, views, training, fabric_of(Hardware("cpu", precision)), folder)
    progress = Progress(Console(file=io.StringIO()), 1)

    def epoch() -> float:
        svi.training = replace(training, epochs=svi.epoch + 1)
        start = time.perf_counter()
        svi.run(progress)
        return time.perf_counter() - start

    return epoch


def measure(case: Case, name: str, root: str, cifar10: str | None, folder: Path) -> dict[str, Any]:
    """Seconds an epoch and views a second of each, and ratios of views a second."""
    count = case.num_images
    images = read(case.data, count + count // 10, root, cifar10)
    train, valid = images[:count], images[count:]
    limited = name.startswith("simclr")
    epochs: dict[str, Epoch] = {"ours": ours(case, train, valid, folder / name, limited)}
    views = {"ours": VIEWS * count}
    if limited:
        encoder, _ = case.networks(train.shape[1:])
        transform = TWO_CIFAR10 if case.data == "cifar10" else TWO_MNIST_PAPER
        epochs["lightly"] = lightly_simclr(encoder, train, GROUPS, LEARNING_RATE, TEMPERATURE, transform)
        views["lightly"] = VIEWS * count
        if case.mixed:
            epochs["ours, bf16"] = ours(case, train, valid, folder / f"{name}_bf16", limited, "bf16-mixed")
            views["ours, bf16"] = VIEWS * count
    else:
        for label, batch_size, transform in PYTHAE:
            networks = case.networks(train.shape[1:])
            epochs[label] = pythae_vae(*networks, train, valid, batch_size, LEARNING_RATE, folder / label, transform)
            views[label] = count
    times = take_turns(epochs, case.rounds, warm_up=1, clock=lambda epoch: epoch())
    # Seconds a view, so that ratios compare like with like.
    each = {label: [t / views[label] for t in values] for label, values in times.items()}
    return {
        "images": count,
        "rounds": case.rounds,
        "epoch_seconds": {label: spread(values) for label, values in times.items()},
        "views_per_second": {label: spread([1 / t for t in values]) for label, values in each.items()},
        "ratios": {
            rival: {own: ratio(each, rival, own) for own in each if own.startswith("ours")}
            for rival in each
            if not rival.startswith("ours")
        },
    }


def rows(name: str, result: dict[str, Any]) -> list[list[str]]:
    over = result["ratios"]
    return [
        [
            f"{name}: {label}",
            figure(result["epoch_seconds"][label]),
            figure(result["views_per_second"][label], 0),
            "; ".join(f"{own[len('ours, ') :]} {figure(by)}".strip() for own, by in over.get(label, {}).items()),
        ]
        for label in result["epoch_seconds"]
    ]


def main() -> None:
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as in step_time.py
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where MNIST is, or is downloaded to")
    parser.add_argument("--cifar10", help="CIFAR-10 as a folder of images, train/CLASS/*; noise of its size without it")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, help="epochs of each; by default as many as the case needs")
    parser.add_argument("--images", type=int, help="images an epoch; by default as many as the case needs")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    given = {"rounds": arguments.rounds, "num_images": arguments.images}
    changes = {option: value for option, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        run = partial(measure, root=arguments.root, cifar10=arguments.cifar10, folder=Path(folder))
        results = {name: run(replace(CASES[name], **changes), name) for name in arguments.only}
    header = ["", "epoch, s", "views a second", "ours is faster by"]
    lines = [row for name, result in results.items() for row in rows(name, result)]
    report({"cases": results}, [table(header, lines)], arguments.out, ["pythae", "lightly", "torchvision"])


if __name__ == "__main__":
    main()
