"""A folder of image folders, one a modality, whose files are paired by name."""

from pathlib import Path

from pyro_simvae.data.carving import partition
from pyro_simvae.data.folder import check_format, find_images, format_of, index_classes
from pyro_simvae.data.holding import hold
from pyro_simvae.data.paired import PairedSplit
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Dataset, Splits
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
        cache: Folder for the decoded images, where a modality's take more than 512 MiB; left out, the user's. "no"
            decodes them every epoch instead.
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
            raise InputError(f"there is no folder {self.path}; name a folder of image folders with --data.path")
        folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if len(folders) < 2:
            raise InputError(f"{root} holds {len(folders)} folders; give each of two or more modalities a folder there")
        files = {folder.name: _by_name(folder) for folder in folders}
        names = _paired(files)

        _, classes = find_images(folders[0])
        if classes is not None:
            classes = [Path(name).parts[0] for name in names]
            self.classes = sorted(set(classes))
        labels = index_classes(folders[0], classes, self.classes)
        parts = partition((len(names), 0, 0), labels, self.valid_fraction, self.test_fraction, self.split_seed)
        held = {}
        for modality, paths in files.items():
            sources = Sources.of_files([paths[name] for name in names])
            target = format_of(sources[0], self.size, self.channels)
            held[modality] = hold(sources, parts, target, self.workers, self.cache, labels)
        return Splits(*(PairedSplit({name: splits[i] for name, splits in held.items()}) for i in range(len(parts))))


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
