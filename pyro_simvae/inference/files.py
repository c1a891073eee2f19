"""Files that are either the old version or the new one, never half of either."""

import csv
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pyro_simvae.errors import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and goes when it does not."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # what a killed process left may be a link to another checkpoint
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row; the columns are the union of the rows' keys, in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def save_checkpoint(paths: Sequence[Path], state: Mapping[str, Any]) -> None:
    """The same checkpoint under each path; it is written once where the file system has links."""
    first, *others = paths
    with atomic(first) as temporary:
        torch.save(dict(state), temporary)
    for path in others:
        with atomic(path) as temporary:
            try:
                temporary.hardlink_to(first)
            except OSError:
                shutil.copyfile(first, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values only, on the CPU. Raises InputError where the file is missing, truncated or foreign."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}: fit without --resume first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        raise InputError(
            f"the checkpoint {path} is truncated or was not written by fit: restore it from a copy, or fit anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"the checkpoint {path} was not written by this version of fit: fit anew")
    return state


CHECKPOINT_FORMAT = "pyro-simvae 1"
