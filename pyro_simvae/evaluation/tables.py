"""An evaluation as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

ROWS = {"z": "latent loc", "features": "before projection", "raw": "raw input", "untrained": "untrained"}
RETRIEVAL = {"recall_1": "recall at 1", "recall_10": "recall at 10", "class": "right class"}
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


def retrieval_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Retrieval between modalities: a row a direction, a column a score.

    Args:
        scores: {"image to text": {"recall_1", "recall_10", "class"}, ...}; what is missing is blank.
    """
    table = Table(title="Retrieval of the test items", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in RETRIEVAL.values():
        table.add_column(heading, justify="right")
    for direction, row in scores.items():
        table.add_row(Text(direction), *(_cell(row.get(key)) for key in RETRIEVAL))
    return table


def print_evaluation(evaluation: Mapping[str, Any], console: Console) -> None:
    """The tables that have something to say; of several modalities, those of each, and retrieval between them."""
    for name, scores in evaluation.get("modalities", {}).items():
        console.print(f"{name}:", highlight=False)
        print_evaluation(scores, console)
    if "retrieval" in evaluation:
        console.print(retrieval_table(evaluation["retrieval"]))
    present = [evaluation[name] for name in _present(evaluation)]
    if any(key in scores for scores in present for key in CLASSIFIERS):
        console.print(accuracy_table(evaluation))
    if any(scores.get("factors") for scores in present):
        console.print(factor_table(evaluation))


def _present(evaluation: Mapping[str, Any]) -> dict[str, str]:
    return {name: heading for name, heading in ROWS.items() if name in evaluation}


def _cell(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
