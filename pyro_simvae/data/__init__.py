"""Data sets split into train, valid and test, and the views drawn from them."""

from pyro_simvae.data.augmentation import Augmentation
from pyro_simvae.data.own_views import OwnAugmentation
from pyro_simvae.data.presets import PRESETS, preset
from pyro_simvae.data.splits import Batch, Dataset, Split, Splits
from pyro_simvae.data.views import Views

DATASETS: dict[str, str] = {
    "arrays": "pyro_simvae.data.arrays.Arrays",
    "blocks": "pyro_simvae.data.blocks.Blocks",
    "celeba": "pyro_simvae.data.celeba.CelebA",
    "cifar10": "pyro_simvae.data.benchmarks.CIFAR10",
    "digits": "pyro_simvae.data.digits.Digits",
    "fashion_mnist": "pyro_simvae.data.benchmarks.FashionMNIST",
    "folder": "pyro_simvae.data.folder.Folder",
    "mnist": "pyro_simvae.data.benchmarks.MNIST",
    "paired_digits": "pyro_simvae.data.captions.PairedDigits",
    "paired_folder": "pyro_simvae.data.paired_folder.PairedFolder",
    "paired_mnist": "pyro_simvae.data.captions.PairedMNIST",
    "shards": "pyro_simvae.data.shards.Shards",
    "sprites": "pyro_simvae.data.sprites.Sprites",
}
"""Each data set's class, by its name on the command line: as paths: only the named one is imported."""

__all__ = [
    "DATASETS",
    "PRESETS",
    "Augmentation",
    "Batch",
    "Dataset",
    "OwnAugmentation",
    "Split",
    "Splits",
    "Views",
    "preset",
]
