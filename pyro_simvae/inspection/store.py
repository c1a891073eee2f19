"""Trees on disk: NetCDF for what fits into memory, Zarr group by group for what does not."""

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


def read(path: Path) -> xr.DataTree:
    """The tree in a .nc file or a .zarr folder; of Zarr, what is asked for is read when it is.

    Raises:
        InputError: there is no such file.
    """
    if not path.exists():
        raise InputError(f"there is no {path}: write it with pyro-simvae inspect RUN")
    if path.suffix == ".zarr":
        return xr.open_datatree(path, engine="zarr", consolidated=False)
    return xr.open_datatree(path, engine="h5netcdf")


def stream_zarr(trees: Iterable[xr.DataTree], path: Path) -> None:
    """Writes trees of successive groups as one Zarr store, each when it comes: memory holds one at a time.

    Args:
        trees: of `posterior_tree`, of different groups and otherwise alike.
        path: a folder that does not exist yet.

    Raises:
        InputError: the path exists; draws of a site that all groups share, which would differ between trees.
    """
    if path.exists():
        raise InputError(f"{path} exists: choose another path")
    with _quiet():
        for tree in trees:
            for name, node in tree.children.items():
                dataset = node.to_dataset()
                shared = [str(v) for v in dataset.data_vars if "group" not in dataset[v].dims]
                if shared:
                    raise InputError(
                        f"all groups share {shared[0]!r}, whose draws would differ from one part of the store to the "
                        "next: write fewer images, as NetCDF"
                    )
                if (path / name).exists():
                    dataset.to_zarr(path, group=name, append_dim="group", consolidated=False)
                else:
                    chunks = {v: dataset[v].shape for v in dataset.data_vars}
                    encoding = {str(v): {"chunks": shape} for v, shape in chunks.items()}
                    dataset.to_zarr(path, group=name, mode="w", encoding=encoding, consolidated=False)


def batches(count: int, size: int) -> Iterator[range]:
    """The positions 0, ..., count - 1 in parts of `size`, the last of which may be smaller."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Zarr's warning that a tree's text has no final specification in format 3."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        yield
