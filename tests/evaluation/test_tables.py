import io

import pytest
from rich.console import Console

from pyro_simvae.evaluation.tables import factor_table, label_table, print_evaluation

SCORES = {
    "z": {
        "label": {"knn": 0.96512, "linear": 0.9, "mlp": 1.0},
        "x [left]": {"linear": 0.5, "knn": 0.25},
        "hue": {"linear": -0.125, "knn": 0.75},
        "none": {"rankme": 7.5},
    },
    "raw": {"label": {"knn": 0.1, "linear": 0.2, "mlp": 0.3}},
    "story": {"none": {"bound": -100.25}},
}
EVALUATION = {
    "scores": SCORES,
    "content_targets": ["label", "hue"],
    "style_targets": ["x [left]"],
    "left_out": ["factor y: it has one value"],
    "elbo": {"elbo": -100.0},
    "weights": "best",
}


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, color_system=None)


def rows(console):
    return [line.replace("│", " ").split() for line in console.file.getvalue().splitlines() if "." in line]


def test_a_row_for_each_representation_with_a_label(console):
    console.print(label_table(SCORES))
    assert rows(console) == [["latent", "loc", "0.965", "0.900", "1.000"], ["raw", "input", "0.100", "0.200", "0.300"]]


def test_missing_scores_are_blank(console):
    console.print(label_table({"untrained": {"label": {"linear": 0.5}}, "z": {"label": {"knn": 0.25}}}))
    assert rows(console) == [["untrained", "encoder", "0.500"], ["latent", "loc", "0.250"]]


def test_a_row_for_each_factor(console):
    console.print(factor_table(SCORES, ["x [left]", "hue"], "Factors"))
    expected = [["x", "[left]", "latent", "loc", "0.500", "0.250"], ["hue", "latent", "loc", "-0.125", "0.750"]]
    assert rows(console) == expected


def test_tables_without_scores_are_none():
    assert label_table({"z": {"none": {"rankme": 1.0}}}) is None
    assert factor_table(SCORES, ["y"], "Factors") is None


def test_print_evaluation_prints_all_that_there_is(console):
    print_evaluation(EVALUATION, console)
    text = console.file.getvalue()
    for heading in ("Label: test accuracy", "Content factors", "Style", "Health", "Generation"):
        assert heading in text
    assert "-100.250" in text
    assert "left out factor y: it has one value" in text
    assert "collapsed" not in text


def test_a_collapse_is_said(console):
    print_evaluation({"scores": {"z": {"none": {"rankme": 1.0, "collapsed": 1.0}}}}, console)
    assert "latent loc: collapsed, its items can hardly be told apart" in console.file.getvalue()


def test_print_evaluation_of_modalities(console):
    print_evaluation({"modalities": {"image": SCORES}, "retrieval": {"image to text": {"recall_1": 0.5}}}, console)
    text = console.file.getvalue()
    assert "image:" in text
    assert "recall at 1" in text


def test_print_evaluation_of_nothing_prints_nothing(console):
    print_evaluation({"elbo": {"elbo": -100.0}}, console)
    assert console.file.getvalue() == ""
