"""Where encoded images lie: in files of their own, or one after the other inside tar files."""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pyro_simvae.errors import InputError

TAR_HEADER = 512
"""Bytes before the content of a member of a tar file; its name is among them."""


class Source(NamedTuple):
    """One encoded image: the bytes of a file from `offset` on; `size` -1 is all of them. As text, its name."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """The encoded image. Raises InputError where the file cannot be read."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}); restore it, or begin anew") from error

    def __str__(self) -> str:
        if self.size < 0:
            return self.path
        header = Source(self.path, self.offset - TAR_HEADER, TAR_HEADER).read()
        try:
            return f"{self.path}: {tarfile.TarInfo.frombuf(header, 'utf-8', 'replace').name}"
        except tarfile.TarError:  # written over since it was listed
            return f"{self.path} at byte {self.offset}"


@dataclass(frozen=True)
class Sources:
    """M encoded images, as a table: a million cost 24 MB, which worker processes share.

    paths: the files.
    table: (M, 3) int64: the place of the file in `paths`, offset, size.
    """

    paths: Sequence[str]
    table: Tensor

    @classmethod
    def of_files(cls, paths: Sequence[str]) -> Self:
        """Each file is one image."""
        whole = torch.tensor([0, -1]).expand(len(paths), 2)
        return cls(paths, torch.cat([torch.arange(len(paths))[:, None], whole], 1))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All images of the parts, one part after the other."""
        tables, paths = [], list[str]()
        for part in parts:
            tables.append(part.table + torch.tensor([len(paths), 0, 0]))
            paths += part.paths
        return cls(paths, torch.cat(tables))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Source:
        path, offset, size = self.table[index].tolist()
        return Source(self.paths[path], offset, size)

    def take(self, index: Tensor) -> Self:
        """The images at `index` (n,)."""
        return replace(self, table=self.table[index])

    def fingerprint(self) -> str:
        """Changes with the files' names, sizes and times of change, and with the table."""
        digest = fingerprint(self.paths)
        digest.update(self.table.numpy().tobytes())
        return digest.hexdigest()


def fingerprint(paths: Sequence[str]) -> "hashlib._Hash":
    """A digest of the files' names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        digest.update(f"{Path(path).absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest
