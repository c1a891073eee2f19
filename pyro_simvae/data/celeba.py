"""CelebA: aligned photographs of faces with 40 binary attributes."""

from pathlib import Path
from typing import Any

import torch

from pyro_simvae.data.benchmarks import open_or_download
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.holding import hold
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Dataset, Splits


class CelebA(Dataset):
    """Faces: 162,770 + 19,867 + 19,962 colour images, the centre square scaled to 64x64.

    The splits are CelebA's own, which share no person. The 40 attributes are factors; there are no labels.

    Args:
        root: Folder that holds `celeba/`, as torchvision lays it out; downloaded if missing.
        size: Side of the images, in pixels.
        workers: Decoding processes.
        cache: Folder for the decoded images, where they take more than 512 MiB; left out, the user's. "no" decodes them
            every epoch instead.
    """

    views = "celeba"

    def __init__(self, root: str = "data", size: int = 64, workers: int = 2, cache: str | None = None) -> None:
        self.root = root
        self.size = size
        self.workers = workers
        self.cache = cache

    def load(self) -> Splits:
        given = [self._open(name) for name in ("train", "valid", "test")]
        folder = Path(given[0].root, given[0].base_folder, "img_align_celeba")
        names = [name for name in given[0].attr_names if name]  # the header ends in a space, read as a nameless one
        attributes = torch.cat([source.attr for source in given]).long()
        train, valid, test = torch.arange(len(attributes)).split([len(source.filename) for source in given])
        return hold(
            Sources.of_files([str(folder / file) for source in given for file in source.filename]),
            (train, valid, test),
            Format(3, self.size, self.size, convert=True),
            self.workers,
            self.cache,
            factors={name: attributes[:, column] for column, name in enumerate(names)},
        )

    def _open(self, name: str) -> Any:
        from torchvision import datasets

        def open_files(download: bool) -> Any:
            return datasets.CelebA(self.root, split=name, target_type="attr", download=download)

        return open_or_download("CelebA", self.root, open_files)
