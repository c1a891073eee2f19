"""Any folder of images: of any mode and size, with or without classes and splits."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_simvae.data.carving import carve
from pyro_simvae.data.decoding import Format, probe
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.splits import Dataset, Splits
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError

MEMORY_BUDGET = 512 * 2**20
"""Bytes of decoded images up to which a folder is decoded once and kept; a larger one, every epoch."""

DECODED_AT_ONCE = 256
"""Images a worker decodes between two steps of the progress bar."""


class Files(NamedTuple):
    """Image files and their classes: labels (M,) int64, or None where the files lie in no class folders."""

    paths: list[str]
    labels: Tensor | None

    def take(self, index: Tensor) -> "Files":
        """The files at `index` (n,)."""
        labels = None if self.labels is None else self.labels[index]
        return Files([self.paths[i] for i in index.tolist()], labels)


class Folder(Dataset):
    """Images in the layout `train/CLASS/*` and `test/CLASS/*`, `CLASS/*`, or `*` without classes.

    `valid/CLASS/*` (or `val`) is used if it is there; a missing validation or test split is carved out of the
    training images.

    Args:
        path: The folder.
        size: Side of the square that images are scaled to cover and cropped to; left out, the first
            image gives both sides.
        channels: 1 (grey) or 3 (RGB) to convert all images; left out, all must have those of the first.
        workers: Decoding processes.
        valid_fraction: Share carved for validation, in (0, 1).
        test_fraction: Share carved for the test, in (0, 1).
        split_seed: Chooses the carved images.
    """

    views = "crop"

    def __init__(
        self,
        path: str,
        size: int | None = None,
        channels: int | None = None,
        workers: int = 2,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        self.path = path
        self.size = size
        self.channels = channels
        self.workers = workers
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self) -> Splits:
        check_format(self.size, self.channels)
        parts = self._find()
        target = format_of(parts[0].paths[0], self.size, self.channels)
        count = sum(len(part.paths) for part in parts)
        in_memory = count * torch.Size(target.event_shape).numel() <= MEMORY_BUDGET
        splits = [StreamedSplit(part.paths, target, self.workers, part.labels) for part in parts]
        return Splits(*(decode_all(split) if in_memory else split for split in splits))

    def _find(self) -> tuple[Files, Files, Files]:
        """The files of train, valid and test."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise InputError(f"there is no folder {self.path}; name a folder of images with --data.path")
        given = {name: root / name for name in ("train", "valid", "val", "test") if (root / name).is_dir()}
        if "train" not in given:
            given = {"train": root}
        paths, names = find_images(given["train"])
        self.classes = None if names is None else sorted(set(names))
        train = Files(paths, index_classes(given["train"], names, self.classes))
        test, valid = self._heldout(given.get("test")), self._heldout(given.get("valid", given.get("val")))
        if test is None:
            train, test = self._carve(train, self.test_fraction)
        if valid is None:
            train, valid = self._carve(train, self.valid_fraction)
        return train, valid, test

    def _heldout(self, folder: Path | None) -> Files | None:
        if folder is None:
            return None
        paths, names = find_images(folder)
        return Files(paths, index_classes(folder, names, self.classes))

    def _carve(self, files: Files, fraction: float) -> tuple[Files, Files]:
        rest, part = carve(len(files.paths), fraction, self.split_seed, files.labels)
        return files.take(rest), files.take(part)


def check_format(size: int | None, channels: int | None) -> None:
    """Raises InputError at a size or a number of channels that images cannot have; None is what they have."""
    if channels not in (None, 1, 3):
        raise InputError(f"images have 1 or 3 channels, got {channels}; set --data.channels 1 or 3")
    if size is not None and size < 1:
        raise InputError(f"the image size must be positive, got {size}; set for example --data.size 64")


def format_of(first: str, size: int | None, channels: int | None) -> Format:
    """The format of a set of images: as asked for, and otherwise that of its first image."""
    own = probe(first)
    return Format(channels or own.channels, size or own.height, size or own.width, convert=channels is not None)


def find_images(root: Path) -> tuple[list[str], list[str] | None]:
    """The image files under `root`, in order of their names, and the class of each; None without classes.

    Raises:
        InputError: If there are no images, or some lie beside class folders.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension, make_dataset

    loose = sorted(
        str(file) for file in root.iterdir() if file.is_file() and has_file_allowed_extension(file.name, IMG_EXTENSIONS)
    )
    folders = sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    index = {name: i for i, name in enumerate(folders)}
    # make_dataset refuses an empty table of classes.
    items = make_dataset(str(root), index, extensions=IMG_EXTENSIONS, allow_empty=True) if index else []
    if not loose and not items:
        kinds = ", ".join(IMG_EXTENSIONS)
        raise InputError(f"{root} holds no images ({kinds}); put them there, or in class folders")
    if loose and items:
        raise InputError(
            f"{root} holds images beside class folders ({Path(loose[0]).name}, {folders[items[0][1]]}/); "
            f"move them into a class folder, or elsewhere"
        )
    return (loose, None) if loose else ([path for path, _ in items], [folders[i] for _, i in items])


def index_classes(root: Path, names: list[str] | None, classes: list[str] | None) -> Tensor | None:
    """The class names of the images under `root` as labels (M,) int64, places in the training `classes`.

    Raises:
        InputError: If only one of the two has classes, or a class is not among the training ones.
    """
    if names is None and classes is None:
        return None
    if names is None or classes is None:
        raise InputError(
            f"{root} has {'no ' if names is None else ''}class folders, unlike the training images; "
            f"sort the images of both into the same class folders, or of neither"
        )
    strange = sorted(set(names) - set(classes))
    if strange:
        raise InputError(f"{root} has the class {strange[0]}, which no training image has; rename or remove it")
    place = {name: i for i, name in enumerate(classes)}
    return torch.tensor([place[name] for name in names])


def decode_all(split: StreamedSplit) -> MemorySplit:
    """The split with all its images decoded into memory."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    images = torch.empty(len(split), *split.event_shape, dtype=torch.uint8)
    batches = split.batches(torch.arange(len(split)), DECODED_AT_ONCE, 1)
    done = 0
    for batch in track(
        batches,
        "reading images",
        total=-(-len(split) // DECODED_AT_ONCE),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        images[done : done + len(batch.images)] = batch.images[:, 0]
        done += len(batch.images)
    return MemorySplit(images, split.labels, split.factors)
