"""The scores of all cells as one tidy table: data, method, seed, representation, target, metric, value."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_simvae.comparison.cell import read
from pyro_simvae.comparison.grid import Grid
from pyro_simvae.comparison.methods import RAW, UNTRAINED
from pyro_simvae.inference.files import atomic, write_text

COLUMNS = ["data", "method", "seed", "representation", "target", "metric", "value"]
BLOCKS = {"style": "style_targets", "content": "content_targets"}
"""Targets that stand for several, with the entry of evaluation.json that names these."""

LOWER_IS_BETTER = (
    "frechet", "mse", "ece", "ece_plugin", "aurc", "alignment", "uniformity", "bits_per_dim", "seconds", "peak_memory",
    "peak_gpu_memory",
)  # fmt: skip
NO_DIRECTION = ("posterior_scale", "relative_posterior_scale", "collapsed", "bound_se", "ess", "between_within")
"""Metrics that are neither better high nor low: none is the best."""


Failure = Mapping[str, Any]


def sign(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is."""
    return 0 if metric in NO_DIRECTION else -1 if metric in LOWER_IS_BETTER else 1


def collect(grid: Grid, out: Path) -> pd.DataFrame:
    """The scores of the grid's finished cells.

    Beside the targets of the evaluation, "content" and "style" hold the mean over all factors of the kind (R², or
    accuracy of factors that are integers), for the metrics that each of them has. Rows of raw input are those that
    the untrained run of the same seed holds. What a run has cost is found under the representations "fit" and
    "evaluation".

    Returns:
        A frame with the columns `COLUMNS`; data, methods and seeds in the order of the grid.
    """
    rows: list[tuple[str, str, int, str, str, str, float]] = []
    for cell in grid.cells():
        folder = cell.folder(out)
        record, evaluation = read(folder), read_evaluation(folder)
        if "evaluation" not in record:
            continue
        for step in ("fit", "evaluation"):
            cost = ((step, "none", name, value) for name, value in record[step].items() if value is not None)
            rows += [(cell.data, cell.method, cell.seed, *row) for row in cost]
        for row in flatten(evaluation):
            if row[0] != RAW:
                rows.append((cell.data, cell.method, cell.seed, *row))
            elif cell.method == UNTRAINED and RAW in grid.methods:
                rows.append((cell.data, RAW, cell.seed, *row))
    scores = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    order = {name: rank for rank, name in enumerate(grid.methods)}
    return scores.sort_values("method", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def flatten(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float]]:
    """(representation, target, metric, value) of an evaluation, the means over style and content factors with them.

    Of paired data the representations are "z of image" and the like, and "retrieval" has a target a direction.
    """
    scores = dict(evaluation.get("scores", {}))
    for modality, found in evaluation.get("modalities", {}).items():
        scores |= {f"{representation} of {modality}": targets for representation, targets in found.items()}
    if "retrieval" in evaluation:
        scores["retrieval"] = evaluation["retrieval"]
    for representation, targets in scores.items():
        for target, metrics in (targets | _means(targets, evaluation)).items():
            for metric, value in metrics.items():
                yield representation, target, metric, float(value)


def _means(targets: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for block, entry in BLOCKS.items():
        scores = [targets[name] for name in evaluation.get(entry, []) if name in targets and name != "label"]
        if scores and block not in targets:
            shared = [metric for metric in scores[0] if all(metric in score for score in scores)]
            means[block] = {metric: sum(score[metric] for score in scores) / len(scores) for metric in shared}
    return means


def read_evaluation(folder: Path) -> dict[str, Any]:
    """A run's evaluation.json; empty where there is none."""
    path = folder / "evaluation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_failures(grid: Grid, out: Path) -> list[Failure]:
    """The cells that failed, each as {"data", "method", "seed", "reason", "log"}, in the order of the grid."""
    paths = [folder.with_name(f"{folder.name}.failure.json") for folder in (cell.folder(out) for cell in grid.cells())]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def reasons(failures: Sequence[Failure], data: str) -> dict[str, str]:
    """Why runs on a data set failed, by method; raw input fails with the untrained run, which scores it."""
    found = {failure["method"]: failure["reason"] for failure in reversed(failures) if failure["data"] == data}
    return {RAW: found[UNTRAINED], **found} if UNTRAINED in found else found


def write(scores: pd.DataFrame, out: Path) -> None:
    """Writes scores.csv and scores.parquet."""
    write_text(out / "scores.csv", scores.to_csv(index=False))
    with atomic(out / "scores.parquet") as temporary:
        scores.to_parquet(temporary, index=False)
