import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_simvae.data.carving import carve, partition
from pyro_simvae.errors import InputError


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(10, 300),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
    classes=st.integers(1, 5),
)
def test_the_two_sides_partition_the_items_in_proportion(count: int, fraction: float, seed: int, classes: int) -> None:
    labels = torch.arange(count) % classes
    rest, part = carve(count, fraction, seed, labels)
    assert torch.equal(torch.cat([rest, part]).sort().values, torch.arange(count))
    assert len(part) == round(count * fraction)
    shares = labels[part].bincount(minlength=classes) - labels.bincount() * fraction
    assert shares.abs().max() <= 1.5


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (carve(100, 0.2, seed)[1] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_outside_the_unit_interval_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"between 0 and 1.*take"):
        carve(100, fraction, 0)


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_a_side_without_items_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="2 images are too few"):
        carve(2, fraction, 0)


def test_missing_splits_are_carved_out_of_the_training_images() -> None:
    labels = torch.arange(100) % 2
    train, valid, test = partition((100, 0, 0), labels, 0.1, 0.2, seed=3)
    assert [len(part) for part in (train, valid, test)] == [72, 8, 20]
    assert torch.cat([train, valid, test]).sort().values.tolist() == list(range(100))
    assert labels[test].sum() == 10
    rest, part = carve(100, 0.2, 3, labels)
    assert torch.equal(test, part)
    assert torch.equal(valid, rest[carve(80, 0.1, 3, labels[rest])[1]])


def test_given_splits_stay_as_they_are() -> None:
    train, valid, test = partition((5, 2, 3), None, 0.1, 0.2, seed=0)
    assert [part.tolist() for part in (train, valid, test)] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
    train, valid, test = partition((10, 0, 3), None, 0.1, 0.2, seed=0)
    assert test.tolist() == [10, 11, 12]
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(10))
