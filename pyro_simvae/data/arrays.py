"""Arrays in an .npz file: images, or ready-made groups of vector views, such as embeddings of modalities."""

import copy
import difflib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pyro_simvae.data.carving import carve
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.splits import Batch, Dataset, Split, Splits, index_batches
from pyro_simvae.errors import InputError, unknown_name


class VectorGroups(Split):
    """Ready-made groups of J vector views.

    Args:
        views: (M, J, P) float32.
        labels: (M,) int64, or None.
    """

    def __init__(self, views: Tensor, labels: Tensor | None = None) -> None:
        self._views = views
        self.labels = labels
        self.factors = {}
        self.most_views = views.shape[1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self._views.shape[2:])

    def __len__(self) -> int:
        return len(self._views)

    def images(self, index: Tensor) -> Tensor:
        """The first views of the groups at `index` (n,): (n, P)."""
        return self._views[index.to(self._views.device), 0]

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        """As for every split; a group's first `num_views` views are taken.

        Raises:
            InputError: If the groups have fewer.
        """
        available = self._views.shape[1]
        if num_views > available:
            raise InputError(
                f"{num_views} views a group are asked for, but the array views holds {available}; "
                f"set the number of views to {available} or fewer"
            )
        return (
            Batch(self._views[index, :num_views], {})
            for index in index_batches(order.to(self._views.device), batch_size)
        )

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._views = self._views.to(device)
        return moved


class Arrays(Dataset):
    """An .npz file of images or of ready-made views.

    It holds `images` (M, H, W) or (M, C, H, W), uint8 or float in [0, 1]; or `views` (M, J, P), real vectors,
    J views of each of M groups. Either may come with `labels` (M,), integers or strings. `test_images` or `test_views`
    and `test_labels` are a test split of their own; otherwise one is held out.

    Args:
        path: The file.
        valid_fraction: Share of the training items held out for validation, in (0, 1).
        test_fraction: Share of all items held out for the test, in (0, 1), where the file has no test split.
        split_seed: Chooses both.
    """

    views = "crop"

    def __init__(self, path: str, valid_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0) -> None:
        self.path = path
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self) -> Splits:
        arrays = read_arrays(self.path)
        if ("images" in arrays) == ("views" in arrays):
            raise InputError(f"{self.path} must hold either images or views, it has {_names(arrays)}; save one of them")
        kind_of_items = "images" if "images" in arrays else "views"
        known = [kind_of_items, "labels", f"test_{kind_of_items}", "test_labels"]
        for name in arrays:  # others may be kept there for other uses
            if name not in known and difflib.get_close_matches(name, known, cutoff=0.75):
                raise unknown_name(f"array in {self.path}", name, known)
        arrays, given = _joined(arrays, kind_of_items, self.path)
        items = as_images(arrays["images"]) if "images" in arrays else as_views(arrays["views"])
        labels = None
        if "labels" in arrays:
            labels, self.classes = as_labels(arrays["labels"], len(items))
        if "views" in arrays:
            self.views = "none"

        if given:
            rest, test = torch.arange(len(items) - given), torch.arange(len(items) - given, len(items))
        else:
            rest, test = carve(len(items), self.test_fraction, self.split_seed, labels)
        train, valid = carve(len(rest), self.valid_fraction, self.split_seed, None if labels is None else labels[rest])
        kind = MemorySplit if "images" in arrays else VectorGroups
        return Splits(
            *(
                kind(items[index], None if labels is None else labels[index])
                for index in (rest[train], rest[valid], test)
            )
        )


def _joined(arrays: dict[str, Any], kind: str, path: str) -> tuple[dict[str, Any], int]:
    """The arrays with those of the test split behind the others, and how many items are of it."""
    test = f"test_{kind}"
    if test not in arrays:
        if "test_labels" in arrays:
            raise InputError(f"{path} has test_labels and no {test}: save {test} too")
        return arrays, 0
    if ("labels" in arrays) != ("test_labels" in arrays):
        raise InputError(f"{path} has labels of one split only: save labels and test_labels, or neither")
    joined = {}
    for name in (kind, *(["labels"] if "labels" in arrays else [])):
        parts = arrays[name], arrays[f"test_{name}"]
        if parts[0].shape[1:] != parts[1].shape[1:] or parts[0].dtype.kind != parts[1].dtype.kind:
            described = " and ".join(f"{part.dtype} {part.shape}" for part in parts)
            raise InputError(f"{path} has {name} and test_{name} that are {described}: save both alike")
        joined[name] = np.concatenate(parts)
    return joined, len(arrays[test])


def read_arrays(path: str) -> dict[str, Any]:
    """All arrays of an .npz file, by name.

    Raises:
        InputError: If the file is missing, is not an .npz file, or holds Python objects.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}; name an .npz file with --data.path")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz file; write it with numpy.savez(path, images=..., labels=...)")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); save plain numeric arrays with numpy.savez") from error


def as_images(array: Any) -> Tensor:
    """The array `images` as (M, C, H, W), uint8, or float32 in [0, 1].

    Raises:
        InputError: If its rank, channels, type or range does not fit.
    """
    if array.ndim not in (3, 4):
        raise InputError(f"the array images has shape {array.shape}; give it shape (M, H, W) or (M, C, H, W)")
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        hint = ": images.transpose(0, 3, 1, 2)" if array.shape[3] in (1, 3) else ""
        raise InputError(f"the array images has shape {array.shape}; put 1 or 3 channels on axis 1{hint}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"the array images has type {array.dtype}; save it as uint8, or as float in [0, 1]")
    # Written so that NaN fails too.
    if array.dtype.kind == "f" and not ((array >= 0) & (array <= 1)).all():
        raise InputError(
            "the array images has values outside [0, 1] or NaN; scale it (bytes: divide by 255) or clean it"
        )
    images = torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.float32))
    return images.unsqueeze(1) if images.ndim == 3 else images


def as_views(array: Any) -> Tensor:
    """The array `views` as (M, J, P) float32.

    Raises:
        InputError: If its rank or type does not fit, or a value is not finite.
    """
    if array.ndim != 3:
        raise InputError(f"the array views has shape {array.shape}; give it shape (M, J, P): groups, views, features")
    if array.dtype.kind not in "fiu":
        raise InputError(f"the array views has type {array.dtype}; save it as float32")
    if not np.isfinite(array).all():
        raise InputError("the array views has values that are NaN or infinite; remove those groups or fill them in")
    return torch.from_numpy(array.astype(np.float32))


def as_labels(array: Any, count: int) -> tuple[Tensor, list[str]]:
    """The array `labels` as class indices (M,) int64 from 0, and the classes' names.

    Raises:
        InputError: If its shape or type does not fit.
    """
    if array.shape != (count,):
        raise InputError(f"the array labels has shape {array.shape}; give it shape ({count},), one label an item")
    if array.dtype.kind not in "iubU":
        raise InputError(f"the array labels has type {array.dtype}; save it as integers or strings")
    values, labels = np.unique(array, return_inverse=True)
    return torch.from_numpy(labels).long(), [str(value) for value in values]


def _names(arrays: dict[str, Any]) -> str:
    return ", ".join(sorted(arrays)) or "no arrays"
