import pytest
import torch

from pyro_simvae.data.workers import map_in_order, with_bar
from pyro_simvae.errors import InputError


def square(item: int) -> int:
    if item < 0:
        raise InputError(f"{item} is negative; give another")
    return item * item


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_are_in_order_and_no_random_numbers_are_drawn(workers: int) -> None:
    before = torch.get_rng_state()
    assert list(map_in_order(square, range(7), workers)) == [i * i for i in range(7)]
    assert list(map_in_order(square, [], workers)) == []
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_as_one_line_after_what_was_made_before_it(workers: int) -> None:
    made = with_bar(map_in_order(square, [1, 2, -3, 4], workers), 4, "squares")
    assert [next(made), next(made)] == [1, 4]
    with pytest.raises(InputError, match=r"^-3 is negative; give another$"):
        next(made)
