"""CelebA: aligned photographs of faces with 40 binary attributes."""

from pathlib import Path
from typing import Any

from pyro_simvae.data.benchmarks import open_or_download
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.splits import Dataset, Splits
from pyro_simvae.data.streaming import StreamedSplit


class CelebA(Dataset):
    """Faces: 162,770 + 19,867 + 19,962 colour images, the centre square scaled to 64x64.

    The splits are CelebA's own, which share no person. The 40 attributes are factors; there are no labels.

    Args:
        root: Folder that holds `celeba/`, as torchvision lays it out; downloaded if missing.
        size: Side of the images, in pixels.
        workers: Decoding processes.
    """

    views = "celeba"

    def __init__(self, root: str = "data", size: int = 64, workers: int = 2) -> None:
        self.root = root
        self.size = size
        self.workers = workers

    def load(self) -> Splits:
        return Splits(*(self._split(name) for name in ("train", "valid", "test")))

    def _split(self, name: str) -> StreamedSplit:
        from torchvision import datasets

        def open_files(download: bool) -> Any:
            return datasets.CelebA(self.root, split=name, target_type="attr", download=download)

        source = open_or_download("CelebA", self.root, open_files)
        folder = Path(source.root, source.base_folder, "img_align_celeba")
        names = [name for name in source.attr_names if name]  # the header ends in a space, read as a nameless one
        return StreamedSplit(
            [str(folder / file) for file in source.filename],
            Format(3, self.size, self.size, convert=True),
            self.workers,
            factors={name: source.attr[:, column].long() for column, name in enumerate(names)},
        )
