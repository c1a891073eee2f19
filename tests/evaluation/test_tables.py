import io

import pytest
from rich.console import Console

from pyro_simvae.evaluation.tables import accuracy_table, factor_table, print_evaluation

EVALUATION = {
    "z": {
        "knn": 0.96512,
        "linear": 0.9,
        "mlp": 1.0,
        "factors": {"x [left]": {"linear": 0.5, "knn": 0.25}, "hue": {"linear": -0.125, "knn": 0.75}},
    },
    "raw": {"knn": 0.1, "linear": 0.2, "mlp": 0.3},
    "elbo": -100.0,
    "weights": "best",
}


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, color_system=None)


def lines(console):
    return console.file.getvalue().splitlines()


def test_a_row_for_each_representation_that_is_there(console):
    console.print(accuracy_table(EVALUATION))
    rows = [line.replace("│", " ").split() for line in lines(console) if "0." in line]
    assert rows == [["latent", "loc", "0.965", "0.900", "1.000"], ["raw", "input", "0.100", "0.200", "0.300"]]


def test_missing_scores_are_blank(console):
    console.print(accuracy_table({"untrained": {"linear": 0.5}}))
    rows = [line.replace("│", " ").split() for line in lines(console) if "0." in line]
    assert rows == [["untrained", "0.500"]]


def test_a_row_for_each_factor(console):
    console.print(factor_table(EVALUATION))
    rows = [line.replace("│", " ").split() for line in lines(console) if "0." in line]
    assert rows == [["x", "[left]", "0.500", "0.250"], ["hue", "-0.125", "0.750"]]


def test_print_evaluation_prints_both(console):
    print_evaluation(EVALUATION, console)
    text = console.file.getvalue()
    assert "Test accuracy" in text
    assert "Factors" in text


def test_print_evaluation_leaves_out_what_is_missing(console):
    print_evaluation({"raw": {"knn": 0.1, "linear": 0.2, "mlp": 0.3}}, console)
    assert "Factors" not in console.file.getvalue()


def test_print_evaluation_of_nothing_prints_nothing(console):
    print_evaluation({"elbo": -1.0}, console)
    assert lines(console) == []
