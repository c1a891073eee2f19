"""The small benchmark sets that torchvision provides: MNIST, FashionMNIST, CIFAR-10."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_simvae.data.carving import carve
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.splits import Dataset, Splits
from pyro_simvae.errors import InputError


class Benchmark(Dataset):
    """A torchvision set with a training and a test part, small enough for memory.

    Args:
        root: Folder that holds the files, as torchvision lays them out; they are downloaded if missing.
        valid_fraction: Share of the training images held out for validation, in (0, 1).
        split_seed: Chooses the validation images; the test images are the benchmark's own.
    """

    def __init__(self, root: str = "data", valid_fraction: float = 0.1, split_seed: int = 0) -> None:
        self.root = root
        self.valid_fraction = valid_fraction
        self.split_seed = split_seed

    @abstractmethod
    def _open(self, train: bool, download: bool) -> Any:
        """The torchvision data set."""

    def load(self) -> Splits:
        name = type(self).__name__
        source = open_or_download(name, self.root, lambda download: self._open(True, download))
        heldout = open_or_download(name, self.root, lambda download: self._open(False, download))
        self.classes = list(source.classes)

        images, labels = channels_first(source.data), torch.as_tensor(source.targets).long()
        train, valid = carve(len(images), self.valid_fraction, self.split_seed, labels)
        return Splits(
            MemorySplit(images[train], labels[train]),
            MemorySplit(images[valid], labels[valid]),
            MemorySplit(channels_first(heldout.data), torch.as_tensor(heldout.targets).long()),
        )


class MNIST(Benchmark):
    """Handwritten digits: 60,000 + 10,000 grey images of 28x28, 10 classes."""

    views = "mnist"

    def _open(self, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.MNIST(self.root, train=train, download=download)


class FashionMNIST(Benchmark):
    """Pieces of clothing: 60,000 + 10,000 grey images of 28x28, 10 classes."""

    views = "fashion_mnist"

    def _open(self, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.FashionMNIST(self.root, train=train, download=download)


class CIFAR10(Benchmark):
    """Photographs of animals and vehicles: 50,000 + 10,000 colour images of 32x32, 10 classes."""

    views = "cifar10"

    def _open(self, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10(self.root, train=train, download=download)


def open_or_download(name: str, root: str, open_files: Callable[[bool], Any]) -> Any:
    """Open a torchvision set from its files under `root`, downloading them only if they are not there.

    Args:
        name: The set's name, for the message.
        root: Where its files are looked for.
        open_files: Opens the set; its argument says whether to download.

    Raises:
        InputError: If the files can be neither read nor downloaded.
    """
    try:
        return open_files(False)
    except RuntimeError:  # torchvision's way to say that files are missing
        pass
    except (OSError, ValueError, AssertionError) as error:
        raise InputError(f"the {name} files under {root} cannot be read ({one_line(error)}); replace them") from error
    try:
        return open_files(True)
    except (RuntimeError, OSError, ValueError, AssertionError, ImportError) as error:
        raise InputError(
            f"{name} is neither under {root} nor can it be downloaded ({one_line(error)}); "
            f"copy its files there as torchvision lays them out, or name their folder with --data.root"
        ) from error


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__


def channels_first(data: Any) -> Tensor:
    """torchvision's raw array, (M, H, W) or (M, H, W, C) uint8, as a tensor (M, C, H, W)."""
    images = torch.as_tensor(data)
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
