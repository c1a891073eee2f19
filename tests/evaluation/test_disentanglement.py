"""MIG and DCI by hand, and on representations whose score is known."""

import numpy as np
import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation import disentanglement as module
from pyro_simvae.evaluation.disentanglement import completeness, disentangle, disentanglement, gap
from pyro_simvae.evaluation.features import Features, Labels, Targets

SIZES = (1500, 10, 1000)


@pytest.fixture
def factors():
    """Two classes of different number, and two real factors, independent of each other."""
    generator = np.random.default_rng(0)
    draws = [
        (generator.integers(0, 3, m), generator.integers(0, 8, m), generator.uniform(size=m), generator.normal(size=m))
        for m in SIZES
    ]
    shape, scale, x, y = zip(*draws, strict=True)
    return {"shape": Labels(*shape), "scale": Labels(*scale), "x": Targets(*x), "y": Targets(*y)}


def stacked(factors):
    """A dimension a factor, of unit variance."""
    return Features(
        *(
            np.stack([(c - c.mean()) / c.std() for c in columns], axis=1)
            for columns in zip(*factors.values(), strict=True)
        )
    )


def test_one_dimension_a_factor_is_perfect(factors):
    scores = disentangle(stacked(factors), factors, 0)
    assert scores["mig"] > 0.93  # 20 x 20 cells on 1,000 items leave a little information by chance
    assert scores["dci_disentanglement"] > 0.99
    assert scores["dci_completeness"] > 0.99
    assert scores["dci_informativeness"] > 0.98


def test_a_rotation_informs_as_much_but_is_not_disentangled(factors):
    rotation = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    rotated = disentangle(Features(*(split @ rotation for split in stacked(factors))), factors, 0)
    assert rotated["mig"] < 0.2
    assert rotated["dci_disentanglement"] < 0.6
    assert rotated["dci_completeness"] < 0.6
    assert rotated["dci_informativeness"] > 0.6


def test_noise_and_constants_tell_nothing(factors):
    generator = np.random.default_rng(1)
    noise = disentangle(Features(*(generator.normal(size=(size, 5)) for size in SIZES)), factors, 0)
    assert noise["mig"] < 0.05
    assert noise["dci_disentanglement"] < 0.1
    assert noise["dci_completeness"] < 0.1
    # Accuracies of 1/3 and 1/8, R² of 0 or a little less.
    assert noise["dci_informativeness"] == pytest.approx((1 / 3 + 1 / 8) / 4, abs=0.1)
    constant = disentangle(Features(*(np.ones((size, 5)) for size in SIZES)), factors, 0)
    assert constant.pop("dci_informativeness") == pytest.approx((1 / 3 + 1 / 8) / 4, abs=0.05)
    assert constant == {"mig": 0.0, "dci_disentanglement": 0.0, "dci_completeness": 0.0}


def test_dimensions_of_no_use_do_not_count(factors):
    generator = np.random.default_rng(1)
    features = Features(*(np.hstack([split, generator.normal(size=(len(split), 6))]) for split in stacked(factors)))
    scores = disentangle(features, factors, 0)
    assert scores["mig"] > 0.9
    assert scores["dci_disentanglement"] > 0.97
    assert scores["dci_completeness"] > 0.97


def test_a_repeated_dimension_closes_the_gap_and_halves_completeness(factors):
    twice = Features(*(np.hstack([split, split]) for split in stacked(factors)))
    scores = disentangle(twice, factors, 0)
    assert scores["mig"] == pytest.approx(0)
    assert scores["dci_disentanglement"] > 0.97
    # Importance is shared by two of eight dimensions: 1 - log 2 / log 8, or more where one is preferred.
    assert 2 / 3 - 0.02 < scores["dci_completeness"] < 0.85


def test_the_gap_by_hand():
    # Four equally frequent pairs of two bits. z_1 is the first bit; z_2 is 1 where both are: I = H(1/4) - H(1/2) / 2.
    first, second = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    features = np.stack([first, first & second], axis=1).astype(np.float64)
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    shared = quarter - 0.5 * np.log(2)
    assert gap(features, [first]) == pytest.approx(1 - shared / np.log(2))
    assert gap(features, [second]) == pytest.approx(shared / np.log(2))
    assert gap(features, [first, second]) == pytest.approx(0.5)
    assert gap(features[:, :1], [first]) == pytest.approx(1)


def test_real_factors_are_binned_in_twenty():
    values = np.linspace(0, 1, 1000)
    cells = np.minimum(np.arange(1000) // 50, 19)
    np.testing.assert_array_equal(module._binned(values), cells)
    np.testing.assert_array_equal(np.unique(module._binned(np.ones(5))).size, 1)
    assert gap(np.stack([values, np.zeros(1000)], axis=1), [values]) == pytest.approx(1)


def test_dci_by_hand():
    # Dimension 0 serves factor 0 alone, dimension 1 both alike, dimension 2 neither.
    importances = np.array([[0.5, 0.0], [0.5, 1.0], [0.0, 0.0]])
    second = 1 + (1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3)) / np.log(2)
    assert disentanglement(importances) == pytest.approx((0.5 * 1 + 1.5 * second) / 2)
    assert completeness(importances) == pytest.approx(((1 - np.log(2) / np.log(3)) + 1) / 2)


def test_what_one_factor_or_one_dimension_leaves_undefined(factors):
    features = stacked(factors)
    assert disentangle(features, {"x": factors["x"]}, 0).keys() == {"mig", "dci_completeness", "dci_informativeness"}
    lone = Features(*(split[:, :1] for split in features))
    assert disentangle(lone, factors, 0).keys() == {"mig", "dci_disentanglement", "dci_informativeness"}


def test_factors_that_do_not_vary_or_are_not_finite_are_left_out(factors):
    features = stacked(factors)
    expected = disentangle(features, factors, 0)
    broken = Targets(*(split.copy() for split in factors["x"]))
    broken.test[0] = np.nan
    constant = Labels(*(np.ones(size, dtype=np.int64) for size in SIZES))
    assert disentangle(features, factors | {"broken": broken, "constant": constant}, 0) == expected
    assert disentangle(features, {"constant": constant}, 0) == {}


def test_columns_of_a_factor_are_factors(factors):
    features = stacked(factors)
    both = Targets(*(np.stack(pair, axis=1) for pair in zip(factors["x"], factors["y"], strict=True)))
    apart = {"x": factors["x"], "y": factors["y"]}
    assert disentangle(features, {"xy": both}, 0) == disentangle(features, apart, 0)


def test_few_of_many_items_count(factors, monkeypatch):
    monkeypatch.setattr(module, "MOST_ITEMS", 300)
    features = stacked(factors)
    kept = [module.spread(size, 300) for size in SIZES]
    part = Features(*(split[items] for split, items in zip(features, kept, strict=True)))
    some = {
        name: type(values)(*(split[items] for split, items in zip(values, kept, strict=True)))
        for name, values in factors.items()
    }
    assert disentangle(features, factors, 0) == disentangle(part, some, 0)


def test_lengths_are_checked(factors):
    short = factors["x"]._replace(train=factors["x"].train[1:])
    with pytest.raises(InputError, match="train split has 1499 values of factor 'x' for 1500 items"):
        disentangle(stacked(factors), {"x": short}, 0)
