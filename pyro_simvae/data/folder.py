"""Any folder of images: of any mode and size, with or without classes and splits."""

from pathlib import Path

import torch
from torch import Tensor

from pyro_simvae.data.carving import partition
from pyro_simvae.data.decoding import Format, probe
from pyro_simvae.data.holding import hold
from pyro_simvae.data.sources import Source, Sources
from pyro_simvae.data.splits import Dataset, Splits
from pyro_simvae.errors import InputError


class Folder(Dataset):
    """Images in the layout `train/CLASS/*` and `test/CLASS/*`, `CLASS/*`, or `*` without classes.

    `valid/CLASS/*` (or `val`) is used if it is there; a missing validation or test split is carved out of the
    training images. Up to 512 MiB of decoded images are held in memory; more are decoded once, at first use, into a
    file that later epochs and runs read.

    Args:
        path: The folder.
        size: Side of the square that images are scaled to cover and cropped to; left out, the first
            image gives both sides.
        channels: 1 (grey) or 3 (RGB) to convert all images; left out, all must have those of the first.
        workers: Decoding processes.
        cache: Folder for the decoded images, where they take more than 512 MiB; left out, the user's. "no" decodes them
            every epoch instead.
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
        cache: str | None = None,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        self.path = path
        self.size = size
        self.channels = channels
        self.workers = workers
        self.cache = cache
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self) -> Splits:
        check_format(self.size, self.channels)
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise InputError(f"there is no folder {self.path}; name a folder of images with --data.path")
        given = {name: root / name for name in ("train", "valid", "val", "test") if (root / name).is_dir()}
        if "train" not in given:
            given = {"train": root}
        paths, names = find_images(given["train"])
        self.classes = None if names is None else sorted(set(names))
        labels = index_classes(given["train"], names, self.classes)
        counts = [len(paths), 0, 0]
        for place, folder in ((1, given.get("valid", given.get("val"))), (2, given.get("test"))):
            if folder is not None:
                more, names = find_images(folder)
                paths, counts[place] = paths + more, len(more)
                its = index_classes(folder, names, self.classes)
                labels = None if labels is None or its is None else torch.cat([labels, its])
        train, valid, test = counts
        parts = partition((train, valid, test), labels, self.valid_fraction, self.test_fraction, self.split_seed)
        sources = Sources.of_files(paths)
        target = format_of(sources[0], self.size, self.channels)
        return hold(sources, parts, target, self.workers, self.cache, labels)


def check_format(size: int | None, channels: int | None) -> None:
    """Raises InputError at a size or a number of channels that images cannot have; None is what they have."""
    if channels not in (None, 1, 3):
        raise InputError(f"images have 1 or 3 channels, got {channels}; set --data.channels 1 or 3")
    if size is not None and size < 1:
        raise InputError(f"the image size must be positive, got {size}; set for example --data.size 64")


def format_of(first: Source, size: int | None, channels: int | None) -> Format:
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
