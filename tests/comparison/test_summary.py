"""Means, spreads, tests and the best of each column, against hand-computed and library values."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pyro_simvae.comparison.grid import parse
from pyro_simvae.comparison.results import COLUMNS
from pyro_simvae.comparison.summary import COST, LABEL_FREE, Column, against, every, headline, holm, summarize

LINEAR = Column("linear", "label", "linear")


def grid(*methods, seeds=(0, 1, 2)):
    return parse({"data": ["digits"], "methods": list(methods), "seeds": list(seeds), "reference": methods[0]})


def frame(values, target="label", metric="linear", representation="z"):
    rows = [
        ("digits", method, seed, representation, target, metric, float(value))
        for method, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_mean_and_sample_sd_by_hand():
    entry = summarize(frame({"vae": [1.0, 2.0, 6.0]}), [LINEAR], grid("vae"))["vae"][LINEAR]
    assert entry.mean == 3.0
    assert entry.sd == pytest.approx(math.sqrt(7.0))  # (4 + 1 + 9) / 2
    assert entry.num_seeds == 3
    assert str(entry) == "3.000 ± 2.646"


def test_one_seed_has_no_spread_and_no_test():
    table = summarize(frame({"vae": [0.5], "byol": [0.9]}), [LINEAR], grid("vae", "byol", seeds=[0]))
    assert math.isnan(table["byol"][LINEAR].sd)
    assert math.isnan(table["byol"][LINEAR].p)
    assert str(table["byol"][LINEAR]) == "0.900"


def test_welch_test_agrees_with_scipy():
    values = {"vae": np.array([0.1, 0.3, 0.2]), "byol": np.array([0.5, 0.9, 0.6])}
    assert against(values, "vae")["byol"] == pytest.approx(stats.ttest_ind(*values.values(), equal_var=False).pvalue)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.5.
    found = holm({"a": 0.5, "b": 0.03, "c": 0.01, "d": 0.02})
    assert found == pytest.approx({"c": 0.04, "d": 0.06, "b": 0.06, "a": 0.5})
    assert holm({"a": 0.04, "b": 0.02}) == pytest.approx({"b": 0.04, "a": 0.04})  # monotone
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_star_needs_to_survive_the_correction():
    values = {"vae": [0.1, 0.2, 0.3], "byol": [0.5, 0.5, 0.6]}
    alone = summarize(frame(values), [LINEAR], grid("vae", "byol"))["byol"][LINEAR]
    assert 0.01 < alone.p < 0.05
    assert alone.significant
    many = values | {name: [0.1, 0.2, 0.3 + 1e-3] for name in ("simclr", "vicreg", "simsiam", "swav")}
    assert not summarize(frame(many), [LINEAR], grid(*many))["byol"][LINEAR].significant


def test_reference_is_not_tested_against_itself_nor_without_spread():
    found = against({"vae": np.array([1.0, 1.0]), "byol": np.array([2.0, 2.0]), "swav": np.array([3.0, 4.0])}, "vae")
    assert set(found) == {"swav"}
    assert against({"byol": np.array([2.0, 3.0])}, "vae") == {}


def test_best_is_the_highest_or_the_lowest_by_metric():
    values = {"vae": [0.1, 0.1], "byol": [0.9, 0.9], "swav": [0.9, 0.9]}
    methods = grid(*values, seeds=[0, 1])
    higher = summarize(frame(values), [LINEAR], methods)
    assert [name for name in values if higher[name][LINEAR].best] == ["byol", "swav"]
    lower = Column("frechet", "none", "frechet", "story")
    table = summarize(frame(values, "none", "frechet", "story"), [lower], methods)
    assert [name for name in values if table[name][lower].best] == ["vae"]
    neither = Column("scale", "none", "posterior_scale")
    table = summarize(frame(values, "none", "posterior_scale"), [neither], methods)
    assert not any(table[name][neither].best for name in values)


def test_methods_that_see_labels_are_never_the_best():
    values = {"vae": [0.1], "byol": [0.2], "supervised": [0.9]}
    table = summarize(frame(values), [LINEAR], grid(*values, seeds=[0]))
    assert [name for name in values if table[name][LINEAR].best] == ["byol"]


def test_cost_is_told_and_not_judged():
    values = {"vae": [1.0, 1.1], "byol": [9.0, 9.1]}
    entry = summarize(frame(values, "none", "seconds", "fit"), COST, grid(*values, seeds=[0, 1]))["vae"][COST[0]]
    assert not entry.best
    assert math.isnan(entry.p)
    assert str(entry) == "1.1 ± 0.1"


def test_raw_input_stands_where_others_have_z():
    scores = pd.concat([frame({"vae": [0.1]}), frame({"raw": [0.7]}, representation="raw")])
    table = summarize(scores, [LINEAR], grid("vae", "raw", seeds=[0]))
    assert table["raw"][LINEAR].mean == 0.7
    assert table["untrained"] == {}


def test_headline_shows_what_there_is_and_label_free_metrics_without_labels():
    labelled = pd.concat([frame({"vae": [0.1]}), frame({"vae": [3.0]}, "none", "rankme")])
    assert [column.heading for column in headline(labelled)] == ["linear"]
    assert headline(frame({"vae": [3.0]}, "none", "rankme")) == [LABEL_FREE[0]]
    assert headline(frame({})) == []


def test_every_metric_is_in_the_full_tables_by_representation():
    scores = pd.concat([frame({"vae": [0.1]}), frame({"vae": [3.0]}, "none", "bound", "story")])
    found = every(scores)
    assert [column.heading for column in found["z"]] == ["label: linear"]
    assert [column.heading for column in found["story"]] == ["bound"]


def test_negative_numbers_and_large_ones_are_printed_shortly():
    for values, text in (([-123.41, -123.43], "−123.4 ± 0.0"), ([12345.6], "12346"), ([-0.5], "−0.500")):
        table = summarize(frame({"vae": values}), [LINEAR], grid("vae", seeds=range(len(values))))
        assert str(table["vae"][LINEAR]) == text
