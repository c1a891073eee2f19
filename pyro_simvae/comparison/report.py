"""The report of a comparison: one page that holds all of its tables and pictures and asks the network for nothing."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from pyro_simvae.comparison.cell import read
from pyro_simvae.comparison.charts import content_style, read_metrics, training_curves
from pyro_simvae.comparison.grid import Cell, Grid
from pyro_simvae.comparison.markdown import legend
from pyro_simvae.comparison.results import Failure, read_evaluation, reasons, sign
from pyro_simvae.comparison.summary import Column, Entry, every, headline, summarize, values_of
from pyro_simvae.evaluation.score import REPRESENTATIONS
from pyro_simvae.inference.files import write_text

PICTURES = {
    "thumbnails": "latents",
    "latents": "latents",
    "reconstructions": "reconstructions",
    "prior": "samples",
    "one_content": "views of one content",
    "style_scales": "style scales",
}
"""Figures of a run folder that the report shows, with what they are called; the first of each kind that is there."""
COST = (
    Column("fit, s", "none", "seconds", "fit"),
    Column("evaluation, s", "none", "seconds", "evaluation"),
    Column("memory, MiB", "none", "peak_memory", "fit"),
    Column("GPU memory, MiB", "none", "peak_gpu_memory", "fit"),
)
MIB = 2**20


def write_report(grid: Grid, scores: pd.DataFrame, failures: Sequence[Failure], out: Path) -> None:
    """Writes report.html.

    Args:
        grid: what was compared.
        scores: as `pyro_simvae.comparison.results.collect` gives them.
        failures: as `pyro_simvae.comparison.results.read_failures` gives them.
        out: the comparison's folder, with the runs.
    """
    # The name does not end in .html, so autoescape is asked for, not guessed.
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    records = {str(cell): read(cell.folder(out)) for cell in grid.cells()}
    page = environment.get_template("report.html.jinja").render(
        grid=grid,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("pyro-simvae"),
        sections=[_section(data, grid, scores[scores["data"] == data], failures, out) for data in grid.data],
        failures=failures,
        comparison=_yaml(grid.to_dict()),
        configs=[(grid.methods[c.method].title, _yaml(_shown(c))) for c in _first(grid, next(iter(grid.data)))],
        versions=_distinct(record.get("versions", {}) for record in records.values()),
        devices=sorted({record["device"] for record in records.values() if "device" in record}),
    )
    write_text(out / "report.html", page)


def _section(data: str, grid: Grid, scores: pd.DataFrame, failures: Sequence[Failure], out: Path) -> dict[str, Any]:
    """What the page shows of one data set."""
    evaluations = [read_evaluation(cell.folder(out)) for cell in grid.cells() if cell.data == data]
    return {
        "name": data,
        "headline": _table(scores, headline(scores), grid, reasons(failures, data)),
        "legend": legend(scores, grid),
        "left_out": list(dict.fromkeys(line for found in evaluations for line in found.get("left_out", []))),
        "content_style": _content_style(scores, grid),
        "curves": _curves(data, grid, out),
        "details": [
            (REPRESENTATIONS.get(name, name), _turned(scores, columns, grid))
            for name, columns in every(scores).items()
            if name not in ("fit", "evaluation")
        ],
        "gallery": [(grid.methods[cell.method].title, _pictures(cell.folder(out))) for cell in _first(grid, data)],
        "cost": _table(_in_mib(scores), [c for c in COST if c.metric in set(scores["metric"])], grid, {}),
    }


def _table(scores: pd.DataFrame, columns: list[Column], grid: Grid, failed: Mapping[str, str]) -> dict[str, list[Any]]:
    """Headings with the direction of each column, and a row a method; a method without any scores has a reason."""
    table = summarize(scores, columns, grid)
    rows = []
    for name, entries in table.items():
        cells = [_entry(entries.get(column)) for column in columns]
        reason = failed.get(name, "")
        if entries or reason:
            rows.append({"method": grid.methods[name], "cells": cells, "reason": reason, "empty": not entries})
    return {"headings": [(column.heading, sign(column.metric)) for column in columns], "rows": rows}


def _turned(scores: pd.DataFrame, columns: list[Column], grid: Grid) -> dict[str, list[Any]]:
    """The same with a row a metric, a column a method."""
    table = summarize(scores, columns, grid)
    names = [name for name, entries in table.items() if entries]
    rows = [
        {"heading": column.heading, "sign": sign(column.metric), "cells": [_entry(table[n].get(column)) for n in names]}
        for column in columns
    ]
    return {"methods": [grid.methods[name] for name in names], "rows": rows}


def _entry(entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {"text": "", "value": "", "best": False, "star": False, "p": ""}
    p = "" if math.isnan(entry.p) else f"p = {entry.p:.2g} against the reference"
    return {"text": str(entry), "value": entry.mean, "best": entry.best, "star": entry.significant, "p": p}


def _content_style(scores: pd.DataFrame, grid: Grid) -> str | None:
    """Content is the label where there is one, else the content factors; both by linear probes on z."""
    targets = set(scores["target"])
    target = "label" if "label" in targets else "content"
    points = {}
    for name, method in grid.methods.items():
        content, style = (values_of(scores, name, Column("", t, "linear")) for t in (target, "style"))
        if len(content) and len(content) == len(style):
            points[method.title] = content, style
    if not points:
        return None
    x = "content: accuracy on the label, linear" if target == "label" else "content: mean R² over its factors, linear"
    return _uri(content_style(points, x, "style: mean R² or accuracy over its factors, linear"))


def _curves(data: str, grid: Grid, out: Path) -> str | None:
    runs: dict[str, list[Any]] = {}
    for cell in grid.cells():
        if cell.data == data and (rows := read_metrics(cell.folder(out))):
            runs.setdefault(grid.methods[cell.method].title, []).append(rows)
    return _uri(training_curves(runs)) if runs else None


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """Captions and data URIs of the figures of a run."""
    shown: dict[str, str] = {}
    for name, caption in PICTURES.items():
        path = folder / "figures" / f"{name}.png"
        if caption not in shown and path.is_file():
            shown[caption] = _encoded(path.read_bytes())
    return list(shown.items())


def _first(grid: Grid, data: str) -> list[Cell]:
    """The cells of a data set with the first seed."""
    return [cell for cell in grid.cells() if cell.seed == grid.seeds[0] and cell.data == data]


def _in_mib(scores: pd.DataFrame) -> pd.DataFrame:
    memory = scores["metric"].isin(["peak_memory", "peak_gpu_memory"])
    return scores.assign(value=np.where(memory, scores["value"] / MIB, scores["value"]))


def _shown(cell: Cell) -> dict[str, Any]:
    return {key: value for key, value in cell.config.to_dict().items() if key not in ("data", "seed")}


def _distinct(versions: Any) -> dict[str, str]:
    """The versions that the runs were made with, by package."""
    found: dict[str, dict[str, None]] = {}
    for record in versions:
        for name, number in record.items():
            found.setdefault(name, {})[number] = None
    return {name: ", ".join(numbers) for name, numbers in found.items()}


def _yaml(plain: Any) -> str:
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _uri(fig: Figure) -> str:
    file = io.BytesIO()
    fig.savefig(file, format="png")
    return _encoded(file.getvalue())


def _encoded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
