"""Trees that go to disk and come back."""

import numpy as np
import pytest
import torch
import xarray as xr

from pyro_simvae.errors import InputError
from pyro_simvae.inspection.store import read, stream_zarr, write_netcdf


def tree(groups, value=0.0):
    z = np.full((1, 4, len(groups), 2), value)
    coords = {"group": list(groups)}
    posterior = xr.Dataset({"z": (("chain", "draw", "group", "latent"), z)}, coords=coords)
    data = xr.Dataset({"label": (("group",), np.arange(len(groups)))}, coords=coords)
    return xr.DataTree.from_dict({"posterior": posterior, "constant_data": data})


def test_netcdf_and_back(tmp_path):
    path = tmp_path / "posterior.nc"
    write_netcdf(tree([3, 5]), path)
    assert read(path)["posterior"].to_dataset().identical(tree([3, 5])["posterior"].to_dataset())
    assert [entry.name for entry in tmp_path.iterdir()] == ["posterior.nc"]


def test_parts_join_along_the_groups(tmp_path):
    path = tmp_path / "posterior.zarr"
    stream_zarr((tree(part, value) for value, part in enumerate([range(3), range(3, 6), range(6, 7)])), path)
    found = read(path)
    assert found["posterior"]["group"].values.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found["posterior"]["z"].isel(chain=0, draw=0, latent=0).values.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert found["constant_data"]["label"].values.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_one_part_is_in_memory_at_a_time(tmp_path):
    alive = []

    def parts():
        for part in (range(3), range(3, 6), range(6, 9)):
            made = tree(part)
            alive.append(part)
            yield made
            assert (tmp_path / ".posterior.zarr.tmp" / "posterior").exists()  # written before the next is made

    stream_zarr(parts(), tmp_path / "posterior.zarr")
    assert len(alive) == 3


def test_a_store_is_replaced_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "posterior.zarr"
    stream_zarr([tree([0, 1])], path)

    def broken():
        yield tree([5])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_zarr(broken(), path)
    assert read(str(path))["posterior"]["group"].values.tolist() == [0, 1]
    stream_zarr([tree([7])], path)
    assert read(path)["posterior"]["group"].values.tolist() == [7]
    assert [entry.name for entry in tmp_path.iterdir()] == ["posterior.zarr"]


def test_what_cannot_be_stored_says_why(tmp_path):
    path = tmp_path / "posterior.zarr"
    shared = tree([0, 1])
    shared["posterior"] = shared["posterior"].to_dataset().assign(scale=("draw", torch.ones(4).numpy()))
    with pytest.raises(InputError, match="all groups share 'scale'"):
        stream_zarr([shared], path)
    with pytest.raises(InputError, match="there is no"):
        read(tmp_path / "none.nc")
