import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_simvae.data.carving import carve
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
