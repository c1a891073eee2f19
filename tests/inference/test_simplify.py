"""Fewer operations, the same numbers: each rule by itself, and where it must keep its hands off."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_simvae.inference.simplify import simplified


def check(function, *inputs):
    """The simplified graph gives what the function gives, to the bit, writes into its inputs included."""
    given = [x.clone() for x in inputs]
    torch.manual_seed(0)
    expected = function(*given)
    traced = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    before = len(traced.graph.nodes)
    graph = simplified(traced)
    left = [x.clone() for x in inputs]
    torch.manual_seed(0)
    torch.testing.assert_close(list(graph(*left)), expected, rtol=0, atol=0)
    torch.testing.assert_close(left, given, rtol=0, atol=0)
    return before - len(graph.graph.nodes)


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_aliases_and_double_transposes_go():
    assert check(lambda x: [x.detach().t().t() + 1], numbers(3, 2)) == 3


def test_constants_are_computed_once():
    assert check(lambda x: [x + torch.tensor(2.0)], numbers(3)) == 1
    assert check(lambda x: [x * (torch.arange(3) + 1).to(x).log()], numbers(3)) == 3
    assert check(lambda x: [x + torch.ones(3).sum()], numbers(3)) == 1


def test_constants_that_are_written_into_are_made_anew():
    assert check(lambda x: [torch.tensor([2.0, 1.0, 3.0]).add_(x)], numbers(3)) == 0
    assert check(lambda x: [torch.zeros(3).add_(x)], numbers(3)) == 0


def test_large_constants_are_not_kept():
    assert check(lambda x: [x + torch.ones(2**18 + 1).sum()], numbers(3)) == 0


def test_what_is_spread_out_before_a_pointwise_operation():
    assert check(lambda x, s: [x - s.expand(4, 3)], numbers(4, 3), numbers(3)) == 1
    assert check(lambda x, s: [x / s.expand(4, 3).expand(2, 4, 3).log()], numbers(2, 4, 3), numbers(3).exp()) == 2
    assert check(lambda x, s: [torch.addcmul(x, s.expand(4, 3), x)], numbers(4, 3), numbers()) == 1


def test_a_number_spread_out_by_steps():
    def backward_of_a_sum(x, g):
        return [-g.expand(4).unsqueeze(-1).expand(4, 3) * x]

    assert check(backward_of_a_sum, numbers(4, 3), numbers()) == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x, s: [s.expand(4, 3) + s.expand(4, 3)],  # nothing else has the shape
        lambda x, s: [x.sum(1) * s.expand(4, 3).sum(1)],  # a sum counts the copies
        lambda x, s: [s.expand(4, 3)],
    ],
)
def test_spreading_that_counts_stays(function):
    check(function, numbers(4, 3), numbers(3))


def test_a_number_of_higher_precision_keeps_its_type():
    def mixed(x, s):
        return [x + s.expand(4, 3)]  # float64, which float32 plus a float64 number would not be

    check(mixed, numbers(4, 3), numbers(dtype=torch.float64))


def test_repeats_go():
    assert check(lambda x: [(x * 0.5) * (x * 0.5) + (x * 0.5)], numbers(3)) == 2


def test_repeats_with_other_arguments_stay():
    assert check(lambda x: [(x * 0.5) + (x * 0.25), x.sum(0) + x.sum(1)], numbers(3, 3)) == 0


def test_repeats_before_and_after_a_write_stay():
    def changed(x):
        first = x * 2
        x.add_(1)
        return [first, x * 2]

    assert check(changed, numbers(3)) == 0


def test_fresh_memory_that_is_written_into_stays_apart():
    def two_buffers(x):
        first, second = x.new_zeros(3), x.new_zeros(3)
        return [first.add_(1), second.add_(x)]

    assert check(two_buffers, numbers(3)) == 0


def test_draws_stay():
    assert check(lambda x: [torch.rand_like(x), torch.rand_like(x)], numbers(3)) == 0
    assert check(lambda x: [torch.bernoulli(x.sigmoid()), torch.bernoulli(x.sigmoid())], numbers(50)) == 1
