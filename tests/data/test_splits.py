import importlib

import pytest
import torch

import pyro_simvae.data as data
from pyro_simvae.data.splits import Dataset, batch_factors, index_batches


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_index_batches_cover_the_order_and_keep_it(count: int, sizes: list[int]) -> None:
    order = torch.randperm(count)
    pieces = index_batches(order, 4)
    assert [len(piece) for piece in pieces] == sizes
    assert torch.equal(torch.cat([order[:0], *pieces]), order)


def test_batch_factors_are_float_columns() -> None:
    rows = batch_factors({"shape": torch.tensor([4, 5, 6])}, torch.tensor([2, 0]))
    assert rows["shape"].tolist() == [[6.0], [4.0]]
    assert rows["shape"].dtype == torch.float32


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_named_data_set_exists_and_names_a_preset(name: str) -> None:
    module, _, attribute = data.DATASETS[name].rpartition(".")
    cls = getattr(importlib.import_module(module), attribute)
    assert issubclass(cls, Dataset)
    if name != "sprites":  # whose preset depends on its groups
        assert cls.views in data.PRESETS
