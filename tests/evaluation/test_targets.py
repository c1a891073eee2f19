"""What a representation is asked for: which targets are numbers, which are classes, and which go round."""

import numpy as np
import pytest
import torch

from pyro_simvae.data import Splits
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.evaluation.features import Labels, Targets
from pyro_simvae.evaluation.representations import Viewed
from pyro_simvae.evaluation.targets import of_views, periods_of, tables


@pytest.fixture
def splits():
    factors = {"shape": torch.arange(4), "hue": torch.rand(4), "x": torch.rand(4)}
    return Splits(*(MemorySplit(torch.zeros(4, 1, 2, 2), torch.arange(4), factors) for _ in range(3)))


def test_integers_are_classes_and_real_numbers_are_values(splits):
    items = tables(splits, ("shape", "hue"))
    assert isinstance(items.labels, Labels)
    assert isinstance(items.factors["shape"], Labels)
    assert isinstance(items.factors["hue"], Targets)
    assert items.style == ["x"]


def test_all_factors_are_content_where_nothing_else_is_said(splits):
    assert tables(splits, None).style == []


def test_a_split_without_labels_leaves_none(splits):
    splits.valid.labels = None
    assert tables(splits, None).labels is None


def test_flips_and_integer_factors_of_views_are_classes(splits):
    drawn = {
        "shape": np.array([0.0, 3.0], np.float32),
        "vertical_flip": np.array([0.0, 1.0], np.float32),
        "crop_box": np.zeros((2, 4), np.float32),
    }
    found = of_views((Viewed(np.zeros((2, 1, 3)), None, drawn),) * 3, tables(splits, None))
    assert found["shape"].test.tolist() == [0, 3]
    assert found["vertical_flip"].train.dtype == np.int64
    assert isinstance(found["crop_box"], Targets)


def test_a_factor_goes_round_and_the_rotation_of_a_view_does_not(splits):
    items = tables(splits, None)
    assert periods_of({"hue": 0, "rotation": 0, "x": 0}, items) == {"hue": 1.0}
