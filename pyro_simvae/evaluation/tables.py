"""An evaluation as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

ROWS = {"z": "latent loc", "features": "before projection", "raw": "raw input", "untrained": "untrained"}
CLASSIFIERS = {"knn": "15-NN", "linear": "linear", "mlp": "MLP"}


def accuracy_table(evaluation: Mapping[str, Any]) -> Table:
    """Test accuracies: a row a representation, a column a classifier.

    Args:
        evaluation: {"z": {"knn", "linear", "mlp"}, "raw": ..., "untrained": ...}; what is missing is blank.
    """
    table = Table(title="Test accuracy", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in CLASSIFIERS.values():
        table.add_column(heading, justify="right")
    for name, heading in _present(evaluation).items():
        scores = evaluation[name]
        table.add_row(heading, *(_cell(scores.get(key)) for key in CLASSIFIERS))
    return table


def factor_table(evaluation: Mapping[str, Any]) -> Table:
    """Test accuracy or R² of the known factors: a row a factor, two columns a representation.

    Args:
        evaluation: {"z": {"factors": {factor: {"linear", "knn"}}}, ...}.
    """
    table = Table(title="Factors: test accuracy or R²", title_justify="left", title_style="bold")
    table.add_column("")
    rows = {name: heading for name, heading in _present(evaluation).items() if evaluation[name].get("factors")}
    for heading in rows.values():
        for probe in ("linear", "k-NN"):
            table.add_column(f"{heading}\n{probe}", justify="right")
    factors = dict.fromkeys(factor for name in rows for factor in evaluation[name]["factors"])
    for factor in factors:
        scores = [evaluation[name]["factors"].get(factor, {}) for name in rows]
        # Text, since the name comes from the data: square brackets in it are not markup.
        table.add_row(Text(factor), *(_cell(row.get(probe)) for row in scores for probe in ("linear", "knn")))
    return table


def print_evaluation(evaluation: Mapping[str, Any], console: Console) -> None:
    """The tables that have something to say."""
    present = [evaluation[name] for name in _present(evaluation)]
    if any(key in scores for scores in present for key in CLASSIFIERS):
        console.print(accuracy_table(evaluation))
    if any(scores.get("factors") for scores in present):
        console.print(factor_table(evaluation))


def _present(evaluation: Mapping[str, Any]) -> dict[str, str]:
    return {name: heading for name, heading in ROWS.items() if name in evaluation}


def _cell(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
