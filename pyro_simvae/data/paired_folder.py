"""A folder of image folders, one a modality, whose files are paired by name."""

from pathlib import Path

import torch

from pyro_simvae.data.carving import carve
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.folder import MEMORY_BUDGET, check_format, decode_all, find_images, format_of, index_classes
from pyro_simvae.data.paired import PairedSplit
from pyro_simvae.data.splits import Dataset, Split, Splits
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError


class PairedFolder(Dataset):
    """Images in the layout `MODALITY/*` or `MODALITY/CLASS/*`, two modalities or more; the same name, the same item.

    `photo/cat/01.jpg` goes with `sketch/cat/01.png`. Validation and test are carved out.

    Args:
        path: The folder that holds the modalities' folders.
        size: Side of the square that images are scaled to cover and cropped to; left out, each modality's
            first image gives both sides.
        channels: 1 (grey) or 3 (RGB) to convert all images; left out, each modality's first image gives them.
        workers: Decoding processes.
        valid_fraction: Share of the training items held out for validation, in (0, 1).
        test_fraction: Share of all items held out for the test, in (0, 1).
        split_seed: Chooses both.
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
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise InputError(f"there is no folder {self.path}; name a folder of image folders with --data.path")
        folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if len(folders) < 2:
            raise InputError(f"{root} holds {len(folders)} folders; give each of two or more modalities a folder there")
        files = {folder.name: _by_name(folder) for folder in folders}
        names = _paired(files)
        targets = {modality: format_of(paths[names[0]], self.size, self.channels) for modality, paths in files.items()}

        _, classes = find_images(folders[0])
        if classes is not None:
            classes = [Path(name).parts[0] for name in names]
            self.classes = sorted(set(classes))
        labels = index_classes(folders[0], classes, self.classes)
        rest, test = carve(len(names), self.test_fraction, self.split_seed, labels)
        train, valid = carve(len(rest), self.valid_fraction, self.split_seed, None if labels is None else labels[rest])

        def split(index: torch.Tensor) -> Split:
            chosen = None if labels is None else labels[index]
            return PairedSplit(
                {
                    modality: self._split(
                        [paths[names[i]] for i in index.tolist()], chosen, targets[modality], len(names)
                    )
                    for modality, paths in files.items()
                }
            )

        return Splits(split(rest[train]), split(rest[valid]), split(test))

    def _split(self, paths: list[str], labels: torch.Tensor | None, target: Format, count: int) -> Split:
        split = StreamedSplit(paths, target, self.workers, labels)
        return decode_all(split) if count * torch.Size(target.event_shape).numel() <= MEMORY_BUDGET else split


def _by_name(folder: Path) -> dict[str, str]:
    """The image files of a modality by their path below it, without the ending."""
    paths, _ = find_images(folder)
    found: dict[str, str] = {}
    for path in paths:
        name = str(Path(path).relative_to(folder).with_suffix(""))
        if name in found:
            raise InputError(
                f"{folder} holds {name} twice, as {Path(found[name]).name} and {Path(path).name}; keep one"
            )
        found[name] = path
    return found


def _paired(files: dict[str, dict[str, str]]) -> list[str]:
    """The names, which all modalities share. Raises InputError where one has no partner."""
    first, *others = files
    for other in others:
        if lonely := sorted(files[first].keys() ^ files[other].keys()):
            has, lacks = (first, other) if lonely[0] in files[first] else (other, first)
            raise InputError(
                f"{has}/{lonely[0]} has no partner in {lacks}/ ({len(lonely)} in all); "
                "add one of the same name, or remove it"
            )
    return sorted(files[first])
