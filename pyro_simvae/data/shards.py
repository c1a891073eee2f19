"""WebDataset shards: images in tar files, with or without labels and splits."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from pyro_simvae.data.carving import partition
from pyro_simvae.data.folder import check_format, format_of
from pyro_simvae.data.holding import hold
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Dataset, Splits
from pyro_simvae.data.tar_index import Index, index_shards
from pyro_simvae.errors import InputError


class Shards(Dataset):
    """Images in WebDataset shards: uncompressed tar files of `KEY.jpg` (or .png, ...).

    The label of each, an integer or a name, is `KEY.cls` or the field `label` of `KEY.json`; all have one, or none has.

    Shards are read by index, not as streams: every epoch holds each image once, in an order that a seed gives. Decoded
    images are kept as those of a folder are: up to 512 MiB in memory, more in a file that is written at first use.

    Args:
        pattern: Training shards: a folder of .tar files, or a path with braces, `train-{000000..000099}.tar`.
        valid_pattern: Validation shards; left out, carved out of the training images.
        test_pattern: Test shards; left out, carved out of the training images.
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
        pattern: str,
        valid_pattern: str | None = None,
        test_pattern: str | None = None,
        size: int | None = None,
        channels: int | None = None,
        workers: int = 2,
        cache: str | None = None,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        self.pattern = pattern
        self.valid_pattern = valid_pattern
        self.test_pattern = test_pattern
        self.size = size
        self.channels = channels
        self.workers = workers
        self.cache = cache
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self) -> Splits:
        check_format(self.size, self.channels)
        patterns = (self.pattern, self.valid_pattern, self.test_pattern)
        shards = [[] if pattern is None else find_shards(pattern) for pattern in patterns]
        given = [index_shards(part, self.workers, self.cache) for part in shards if part]
        self.classes, labels = _label_indices(given)
        counts = iter(len(part.sources) for part in given)
        train, valid, test = (next(counts) if part else 0 for part in shards)
        parts = partition((train, valid, test), labels, self.valid_fraction, self.test_fraction, self.split_seed)
        sources = Sources.join([part.sources for part in given])
        target = format_of(sources[0], self.size, self.channels)
        return hold(sources, parts, target, self.workers, self.cache, labels)


def find_shards(pattern: str) -> list[str]:
    """The tar files that a pattern names, in its order; those of a folder in order of their names.

    Raises:
        InputError: If there are none, or one is missing.
    """
    from braceexpand import braceexpand

    root = Path(pattern).expanduser()
    if root.is_dir():
        found = sorted(str(path) for path in root.glob("*.tar"))
        if not found:
            raise InputError(f"{pattern} holds no shards (*.tar); name their folder, or the shards themselves")
        return found
    try:
        shards = [str(Path(shard).expanduser()) for shard in braceexpand(pattern)]
    except ValueError as error:
        raise InputError(
            f"{pattern} has a brace too many or too few; write for example train-{{000..099}}.tar"
        ) from error
    for shard in shards:
        if not Path(shard).is_file():
            raise InputError(
                f"there is no shard {shard}; name local tar files with --data.pattern, "
                f"for example 'train-{{000..099}}.tar', or their folder"
            )
    return shards


def _label_indices(given: Sequence[Index]) -> tuple[list[str] | None, Tensor | None]:
    """The names of the training labels, in numerical order where all are integers, and all labels as places in it."""
    names = given[0].labels
    for part in given[1:]:
        if (part.labels is None) != (names is None):
            raise InputError(
                f"{part.sources.paths[0]} has {'no ' if part.labels is None else ''}labels, unlike the training "
                f"shards; give both labels, or neither"
            )
    if names is None:
        return None, None
    classes = sorted(set(names.tolist()))
    with suppress(ValueError):
        classes.sort(key=int)
    place = {name: i for i, name in enumerate(classes)}
    labels = [name for part in given if part.labels is not None for name in part.labels.tolist()]
    for name in labels:
        if name not in place:
            raise InputError(f"the label {name} of a validation or test image is that of no training image; remove it")
    return classes, torch.tensor([place[name] for name in labels])
