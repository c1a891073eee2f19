"""Views per second of ours against torchvision's transforms, image by image in a DataLoader's workers.

    python benchmarks/data_path.py [--mnist ROOT] [--cifar10 FOLDER] [--rounds 7] [--no-training] [--out data_path.json]

Two presets, `mnist_paper` (28x28) and `cifar10` (32x32), J = 2, 64 and 256 groups a batch. Four take turns in one
process: ours; kornia's modules, on batches too; torchvision's v2 on uint8 tensors and on PIL images, with two
persistent workers, in batches as a training loop gets them. A round is an epoch over the same images, uint8 in memory.
What of a training epoch the views are is then measured with a step of SVI on the same batch: the paper's MLP, and
ResNet-18.

ROOT is torchvision's (with MNIST/raw), FOLDER has CIFAR-10 as image files at any depth; without them the images are
noise.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import kornia.augmentation as kornia
import numpy as np
import pyro
import torch
from measure import Times, figure, ratio, report, spread, table, take_turns
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from pyro_simvae.data import Augmentation, Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.inference.svi import SVI
from pyro_simvae.likelihoods import Bernoulli
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP, ResNet18

J, WORKERS = 2, 2
GROUPS = (64, 256)
NETWORKS: dict[str, Any] = {"mnist_paper": (MLP, 10), "cifar10": (ResNet18, 64)}
ARMS = {
    "ours": "ours",
    "kornia": "kornia's modules",
    "tensors": f"torchvision, tensors, {WORKERS} workers",
    "PIL": f"torchvision, PIL, {WORKERS} workers",
}


# -- the images -----------------------------------------------------------------------------------------------------


def mnist(root: Path | None, count: int) -> Tensor:
    if root is None:
        return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
    return datasets.MNIST(root).data[:count, None]


def cifar10(folder: Path | None, count: int) -> Tensor:
    if folder is None:
        return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    pixels = np.stack([np.array(Image.open(path).convert("RGB")) for path in chosen])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


# -- the arms -------------------------------------------------------------------------------------------------------


def on_batches(views: Callable[[Tensor], object], images: Tensor, groups: int) -> Callable[[], None]:
    """An epoch of an augmentation that takes a batch (groups, 1, C, H, W)."""

    def epoch() -> None:
        for index in torch.randperm(len(images)).split(groups):
            views(images[index].unsqueeze(1))

    return epoch


def kornias_modules(a: Augmentation, side: int) -> Callable[[Tensor], Tensor]:
    """The two presets as kornia's modules, one after another."""
    assert a.crop_scale is not None
    crop = partial(kornia.RandomResizedCrop, scale=a.crop_scale, ratio=a.crop_ratio, cropping_mode="resample")
    steps: list[nn.Module] = [crop((side, side))]
    if a.horizontal_flip:
        steps.append(kornia.RandomHorizontalFlip(p=a.horizontal_flip))
    if a.vertical_flip:
        steps.append(kornia.RandomVerticalFlip(p=a.vertical_flip))
    if a.jitter:
        steps.append(kornia.ColorJitter(*a.jitter, p=a.jitter_probability))
    if a.grayscale:
        steps.append(kornia.RandomGrayscale(p=a.grayscale))

    def views(images: Tensor) -> Tensor:
        x = images.float().div(255).expand(-1, J, -1, -1, -1).flatten(0, 1)
        for step in steps:
            x = step(x)
        return (x.clamp(0, 1) if a.threshold is None else (x > a.threshold).float()).unflatten(0, (-1, J))

    return views


def torchvisions_transform(a: Augmentation, side: int) -> v2.Compose:
    """The two presets as one writes them for SimCLR."""
    assert a.crop_scale is not None
    steps: list[nn.Module] = [v2.RandomResizedCrop((side, side), scale=a.crop_scale, ratio=a.crop_ratio)]
    if a.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(a.horizontal_flip))
    if a.vertical_flip:
        steps.append(v2.RandomVerticalFlip(a.vertical_flip))
    if a.jitter:
        steps.append(v2.RandomApply([v2.ColorJitter(*a.jitter)], a.jitter_probability))
    if a.grayscale:
        steps.append(v2.RandomGrayscale(a.grayscale))
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(steps)


class Pairs(Dataset[Tensor]):
    """J views of each image, drawn when the image is asked for."""

    def __init__(self, images: Tensor, a: Augmentation, pil: bool) -> None:
        self.images = [v2.functional.to_pil_image(image) for image in images] if pil else images
        self.transform = torchvisions_transform(a, images.shape[-1])
        self.threshold = a.threshold

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        x = torch.stack([self.transform(self.images[index]) for _ in range(J)])
        return x if self.threshold is None else (x > self.threshold).float()


def in_workers(loader: DataLoader[Tensor]) -> Callable[[], None]:
    def epoch() -> None:
        for x in loader:
            assert x.shape[1] == J

    return epoch


# -- the measurements -----------------------------------------------------------------------------------------------


def epochs(name: str, images: Tensor, groups: int, rounds: int) -> Times:
    """Seconds of epochs of each arm."""
    a = preset(name)
    views = Views(a, tuple(images.shape[1:]))
    loader = partial(DataLoader, batch_size=groups, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    works = {
        "ours": on_batches(lambda batch: views(batch, J), images, groups),
        "kornia": on_batches(kornias_modules(a, images.shape[-1]), images, groups),
        "tensors": in_workers(loader(Pairs(images, a, pil=False))),
        "PIL": in_workers(loader(Pairs(images, a, pil=True))),
    }
    return take_turns(works, rounds, warm_up=1)


def training_share(name: str, images: Tensor, steps: int) -> dict[str, float]:
    """Seconds of drawing the views of a batch and of the SVI step on it, and the share of the first in both."""
    groups, event = GROUPS[0], tuple(images.shape[1:])
    make, dim = NETWORKS[name]
    network = make()
    model = SimVAE(Bernoulli(network.decoder(event, dim)), dim, style_scale=0.39)
    elbo = LedgerELBO(model, MeanField(model, network.encoder(event, dim)))
    views, split = Views(preset(name), event), MemorySplit(images[:groups], None)
    fabric = fabric_of(Hardware("cpu"))
    step = SVI(elbo, split, split, views, Training(num_groups=groups), fabric, Path()).update.on_views
    batch = images[:groups].unsqueeze(1)
    x, _ = views(batch, J)
    times = take_turns({"views": lambda: views(batch, J), "step": lambda: step(x, {})}, steps, warm_up=2)
    found = {name: spread(values)["median"] for name, values in times.items()}
    return found | {"share": found["views"] / (found["views"] + found["step"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="torchvision's root folder")
    parser.add_argument("--cifar10", type=Path, help="a folder of image files")
    parser.add_argument("--images", type=int, default=2048, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-training", action="store_true", help="leave out the share in training")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    fabric_of(Hardware("cpu"))  # freed memory is kept, as in all commands
    data = {
        "mnist_paper": mnist(arguments.mnist, arguments.images),
        "cifar10": cifar10(arguments.cifar10, arguments.images),
    }
    result: dict[str, Any] = {"views_per_second": {}, "speedup": {}, "training": {}, "images": arguments.images}
    result["noise"] = [name for name in data if getattr(arguments, name.removesuffix("_paper")) is None]
    rows = []
    for name, images in data.items():
        for groups in GROUPS:
            times = epochs(name, images, groups, arguments.rounds)
            case = f"{name}, {groups} groups"
            speeds = {arm: spread([J * len(images) / value for value in values]) for arm, values in times.items()}
            speedups = {arm: ratio(times, arm, over="ours") for arm in ARMS if arm != "ours"}
            result["views_per_second"][case], result["speedup"][case] = speeds, speedups
            rows.append([case, *(figure(speeds[arm], 0) for arm in ARMS), *(figure(s, 1) for s in speedups.values())])
    overs = [f"ours over {ARMS[arm]}" for arm in ARMS if arm != "ours"]
    tables = [table(["views a second", *ARMS.values(), *overs], rows)]
    if not arguments.no_training:
        pyro.enable_validation(False)  # as `fit` does after the first batch
        steps = {"mnist_paper": 20, "cifar10": 3}
        result["training"] = {name: training_share(name, images, steps[name]) for name, images in data.items()}
        shares = []
        for name, found in result["training"].items():
            figures = (f"{1e3 * found['views']:.1f}", f"{1e3 * found['step']:.0f}", f"{found['share']:.1%}")
            shares.append([f"{name}, {NETWORKS[name][0].__name__}", *figures])
        tables.append(table(["a batch of 64 groups", "views, ms", "SVI step, ms", "share of views"], shares))
    report(result, tables, arguments.out, ("torchvision", "kornia"))


if __name__ == "__main__":
    main()
