"""An evaluation as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyro_simvae.evaluation.score import REPRESENTATIONS, Scores

RETRIEVAL = {"recall_1": "recall at 1", "recall_10": "recall at 10", "class": "right class"}
LABEL = {
    "knn": "15-NN",
    "linear": "linear",
    "mlp": "MLP",
    "kmeans_accuracy": "k-means",
    "gmm_accuracy": "mixture",
    "few_10": "10 a class",
}
"""What is shown of the scores of the label."""
PROBES = {"linear": "linear", "knn": "k-NN", "kernel": "kernel"}
"""What is shown of the scores of a factor."""
HEALTH = {"rankme": "RankMe", "active_units": "active units", "between_within": "between / within groups"}
STORY = {"bound": "log p(x), nats", "bits_per_dim": "bits/dim", "mse": "MSE", "ssim": "SSIM", "frechet": "Fréchet"}


def label_table(scores: Scores) -> Table | None:
    """Test accuracies: a row a representation, a column a classifier; None where the data has no labels."""
    rows = {name: targets["label"] for name, targets in scores.items() if "label" in targets}
    return _table("Label: test accuracy", rows, LABEL)


def factor_table(scores: Scores, targets: Sequence[str], title: str) -> Table | None:
    """Test accuracy or R² of factors: a row for each representation of each factor; None where there are none.

    Args:
        scores: of all representations.
        targets: the factors.
        title: of the table.
    """
    rows = [(t, name, found[t]) for t in targets for name, found in scores.items() if t in found]
    shown = {key: text for key, text in PROBES.items() if any(key in row for _, _, row in rows)}
    if not shown:
        return None
    table = Table(title=f"{title}: test accuracy or R²", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("")
    for heading in shown.values():
        table.add_column(heading, justify="right")
    for target, name, row in rows:
        # Text, since the name comes from the data: square brackets in it are not markup.
        table.add_row(Text(target), REPRESENTATIONS[name], *(_cell(row.get(key)) for key in shown))
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
        print_evaluation({"scores": scores}, console)
    if "retrieval" in evaluation:
        console.print(retrieval_table(evaluation["retrieval"]))
    scores = evaluation.get("scores", {})
    content = [target for target in evaluation.get("content_targets", []) if target != "label"]
    free = {name: targets["none"] for name, targets in scores.items() if "none" in targets}
    tables = (
        label_table(scores),
        factor_table(scores, content, "Content factors"),
        factor_table(scores, evaluation.get("style_targets", []), "Style"),
        _table("Health", free, HEALTH),
        _table("Generation", free, STORY),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    for name, values in free.items():
        if values.get("collapsed"):
            console.print(f"{REPRESENTATIONS[name]}: collapsed, its items can hardly be told apart", style="yellow")
    for line in evaluation.get("left_out", []):
        console.print(f"left out {line}", highlight=False)


def _table(title: str, rows: Mapping[str, Mapping[str, float]], headings: Mapping[str, str]) -> Table | None:
    """A row a representation, a column a metric, for those that there are."""
    shown = {key: text for key, text in headings.items() if any(key in row for row in rows.values())}
    if not shown:
        return None
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in shown.values():
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        if any(key in row for key in shown):
            table.add_row(REPRESENTATIONS[name], *(_cell(row.get(key)) for key in shown))
    return table


def _cell(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
