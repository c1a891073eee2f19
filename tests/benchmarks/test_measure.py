"""What the benchmarks share, and that the hand-written step is a step of the same objective."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A benchmark as a module, loaded anew."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for module in ("measure", "step_time", "publish"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__(name)


@pytest.fixture
def measure(monkeypatch):
    return load(monkeypatch, "measure")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_everyone_goes_first_and_last_equally_often(measure, count):
    names = [str(i) for i in range(count)]
    orders = [measure.turn(names, i) for i in range(2 * count)]
    assert all(sorted(order) == names for order in orders)
    for place in (0, -1):
        assert Counter(order[place] for order in orders) == dict.fromkeys(names, 2)


def test_warm_up_is_called_and_not_measured(measure):
    calls = []
    times = measure.take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert Counter(calls) == {"a": 5, "b": 5}
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round(measure):
    slow_rounds = [1.0, 10.0, 100.0]
    times = {"a": [2 * t for t in slow_rounds], "b": slow_rounds}
    assert measure.ratio(times, "a", "b") == {"median": 2.0, "5%": 2.0, "95%": 2.0}


def test_table(measure):
    assert measure.table(["", "ms"], [["ours", "1"]]) == "|  | ms |\n| --- | ---: |\n| ours | 1 |"


def test_hand_written_steps_descend_as_ours_do(monkeypatch):
    step_time = load(monkeypatch, "step_time")
    size = step_time.SIZES["digits"]
    x = size.views()
    losses = []
    for make in (step_time.ours, step_time.by_hand):
        step = make(size)
        losses.append([])
        for i in range(5):
            torch.manual_seed(i)  # the latents' noise is drawn first
            losses[-1].append(step(x))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0.0)
    assert losses[0][-1] < losses[0][0]


def test_published_tables_take_the_place_of_their_own_block_only(monkeypatch, tmp_path):
    publish = load(monkeypatch, "publish")
    (tmp_path / "epoch.md").write_text("| new |\n")
    page = "a\n<!-- from step_time.py -->\nkept\n<!-- end -->\nb\n<!-- from epoch.py -->\nold\n<!-- end -->\nc\n"
    expected = page.replace("old\n", "\n| new |\n\n")
    assert publish.publish(page, tmp_path) == expected
