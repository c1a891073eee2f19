"""The headline table in Markdown."""

from collections.abc import Sequence

import pandas as pd

from pyro_simvae.comparison.grid import Grid
from pyro_simvae.comparison.methods import UNTRAINED
from pyro_simvae.comparison.results import Failure, reasons
from pyro_simvae.comparison.summary import Entry, headline, summarize


def markdown(scores: pd.DataFrame, grid: Grid, failures: Sequence[Failure]) -> str:
    """A table for each data set: a row a method, a column a metric; then what its signs mean.

    Args:
        scores: as `pyro_simvae.comparison.results.collect` gives them.
        failures: as `pyro_simvae.comparison.results.read_failures` gives them.
    """
    parts = []
    for data in grid.data:
        here = scores[scores["data"] == data]
        columns = headline(here)
        table = summarize(here, columns, grid)
        failed = reasons(failures, data)
        lines = [f"## {data}", ""]
        lines.append("| method | " + " | ".join(column.heading for column in columns) + " |")
        lines.append("|---|" + "---:|" * len(columns))
        for name, entries in table.items():
            cells = [_cell(entries.get(column)) for column in columns]
            if name in failed and not entries:
                cells = [f"failed: {_escaped(failed[name])}"] + [""] * (len(columns) - 1)
            title = grid.methods[name].title + (" †" if grid.methods[name].sees_labels else "")
            lines.append(f"| {_escaped(title)} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- {_escaped(line)}" for line in legend(here, grid))]
        for f in failures:
            if f["data"] == data and table[f["method"]]:
                lines.append(f"- Failed: {grid.methods[f['method']].title}, seed {f['seed']}: {_escaped(f['reason'])}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def legend(scores: pd.DataFrame, grid: Grid) -> list[str]:
    """What the signs of a data set's tables mean, a sentence each."""
    seeds = ", ".join(str(seed) for seed in grid.seeds)
    reference = grid.methods[grid.reference].title
    if len(grid.seeds) > 1:
        lines = [
            f"Mean ± standard deviation over the seeds {seeds}.",
            f"* differs from {reference}: two-sided Welch t-test, p < 0.05 after Holm's correction over the methods.",
        ]
    else:
        lines = [f"One seed ({seeds}): no spread and no tests."]
    lines.append("Bold: the best mean of a column.")
    if any(method.sees_labels for method in grid.methods.values()):
        lines.append("† sees the labels while it is fitted, and is left out of the bold.")
    state = scores[(scores["representation"] == "z") & (scores["metric"] == "collapsed")]
    for name, values in state.groupby("method", sort=False)["value"]:
        if name != UNTRAINED and (found := int(values.sum())):
            lines.append(
                f"{grid.methods[str(name)].title} collapsed (seeds: {found} of {len(values)}): its latents can hardly "
                "be told apart, and probes magnify what is left."
            )
    if len(scores) and "label" not in set(scores["target"]):
        lines.append("The data has no labels: only metrics that need none are shown.")
    return lines


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = f"**{entry}**" if entry.best else str(entry)
    return text + ("\\*" if entry.significant else "")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
