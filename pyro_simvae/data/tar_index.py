"""What WebDataset shards hold: where each image lies in its tar file, and its label."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pyro_simvae.data.cache import cache_folder, made_once
from pyro_simvae.data.sources import TAR_HEADER, Source, Sources, fingerprint
from pyro_simvae.data.workers import map_in_order, with_bar
from pyro_simvae.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")
"""Kinds of members that are images."""

KEPT_FROM = 512 * 2**20
"""Bytes of shards from which their index is kept in the cache: to make it takes seconds from here on."""


class Index(NamedTuple):
    """The images of a list of shards, in their order there.

    sources: M images.
    labels: (M,) texts, or None where no image has a label.
    """

    sources: Sources
    labels: np.ndarray | None


def index_shards(shards: Sequence[str], workers: int, cache: str | None) -> Index:
    """The images and labels of some shards. A large set's index is made once and kept in the cache.

    Args:
        shards: Uncompressed tar files.
        workers: Processes that read them.
        cache: The folder of the cache, None for the user's, or "no".

    Raises:
        InputError: If a shard is not a whole tar file, holds no images, a key twice or a label that cannot be read; or
            some images have labels and others none.
    """
    if cache == "no" or sum(Path(shard).stat().st_size for shard in shards) < KEPT_FROM:
        table, labels = _index(shards, workers)
    else:
        path = cache_folder(cache) / f"index-{fingerprint(shards).hexdigest()[:24]}.npz"
        made_once(path, lambda partial: _save(partial, *_index(shards, workers)))
        with np.load(path) as file:
            table, labels = file["table"], file["labels"]
    return Index(Sources(list(shards), torch.from_numpy(table)), labels if len(labels) else None)


def _save(path: Path, table: np.ndarray, labels: np.ndarray) -> None:
    np.savez(path, table=table, labels=labels)


def _index(shards: Sequence[str], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """The table of `Sources` (M, 3), and the labels: (M,), or (0,) where there are none."""
    import webdataset.tariterators  # noqa: F401 (it takes a second, which each process would need otherwise)

    tables, labels = [], []
    found = with_bar(map_in_order(index_shard, shards, workers), len(shards), "reading shards")
    for place, (places, its) in enumerate(found):
        tables.append(np.insert(places, 0, place, axis=1))
        labels.append(its)
    for shard, its in zip(shards, labels, strict=True):
        if bool(len(its)) != bool(len(labels[0])):
            raise InputError(
                f"the images of {shard} have {'' if len(its) else 'no '}labels, unlike those of {shards[0]}; "
                f"give all images labels (KEY.cls, or the field label in KEY.json), or none"
            )
    return np.concatenate(tables), np.concatenate(labels)


def index_shard(shard: str) -> tuple[np.ndarray, np.ndarray]:
    """Offset and size of each image of one shard, (m, 2) int64, and the labels: (m,) texts, or (0,) where none has one.

    By WebDataset's conventions: a member's path up to the first dot of its name is the key, the rest is the kind.
    """
    from webdataset.tariterators import base_plus_ext

    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                key, kind = base_plus_ext(member.name)
                if not member.isreg() or key is None:
                    continue
                at = Source(shard, member.offset_data, member.size)
                kind = kind.lower()
                if kind in IMAGES:
                    if key in images:
                        raise InputError(f"{shard} holds two images of the key {key}; rename or remove one")
                    images[key] = at.offset, at.size
                elif kind in ("cls", "json"):
                    label = _label(at, kind)
                    if label is not None:
                        labels[key] = label
            # Python's reader takes a header that it cannot read for the end.
            whole = not any(Source(shard, tar.offset, TAR_HEADER).read() or b"cut")
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{shard} is not an uncompressed tar file that is whole ({error}); write it anew") from error
    if not whole:
        raise InputError(f"{shard} has no end: it was cut short or damaged; write it anew")
    if not images:
        raise InputError(f"{shard} holds no images (KEY.{', KEY.'.join(IMAGES)}); leave it out, or add some")
    missing = [key for key in images if key not in labels]
    if 0 < len(missing) < len(images):
        raise InputError(
            f"{shard} has no label for {missing[0]} ({len(missing)} in all), but for others; "
            f"give all images labels (KEY.cls, or the field label in KEY.json), or none"
        )
    return np.array(list(images.values())), np.array([] if missing else [labels[key] for key in images], dtype=str)


def _label(source: Source, kind: str) -> str | None:
    """The text of a .cls, or the field label of a .json if it has one."""
    content = source.read()
    try:
        label = content.decode().strip() if kind == "cls" else json.loads(content).get("label", "")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{source} is no label that can be read; write text, or in JSON an object") from error
    return str(label) or None
