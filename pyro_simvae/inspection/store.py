"""Trees on disk: NetCDF for what fits into memory, Zarr group by group for what does not."""

import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import atomic


def write_netcdf(tree: xr.DataTree, path: Path) -> None:
    """Writes the tree as one NetCDF 4 file; `path` holds the old file or the new one, never a part."""
    with atomic(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")


def read(path: Path | str) -> xr.DataTree:
    """The tree in a .nc file or a .zarr folder; of Zarr, what is asked for is read when it is.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no {path}: write it with pyro-simvae inspect RUN")
    if path.suffix == ".zarr":
        return xr.open_datatree(path, engine="zarr", consolidated=False)
    return xr.open_datatree(path, engine="h5netcdf")


def stream_zarr(trees: Iterable[xr.DataTree], path: Path) -> None:
    """Writes trees of successive groups as one Zarr store, each when it comes: memory holds one at a time.

    Args:
        trees: of `posterior_tree`, of different groups and otherwise alike.
        path: a folder; it holds the old store or the new one, never a part.

    Raises:
        InputError: draws of a site that all groups share, which would differ between trees.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _quiet():
            for tree in trees:
                for name, node in tree.children.items():
                    _append(node.to_dataset(), temporary, name)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _append(dataset: xr.Dataset, path: Path, group: str) -> None:
    shared = [str(name) for name in dataset.data_vars if "group" not in dataset[name].dims]
    if shared:
        raise InputError(
            f"all groups share {shared[0]!r}, whose draws would differ from one part of the store to the next: write "
            "fewer images, as NetCDF"
        )
    if (path / group).exists():
        dataset.to_zarr(path, group=group, append_dim="group", consolidated=False)
    else:
        encoding = {str(name): {"chunks": dataset[name].shape} for name in dataset.data_vars}
        dataset.to_zarr(path, group=group, mode="w", encoding=encoding, consolidated=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Zarr's warning that a tree's text has no final specification in format 3."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        yield
