"""The command `compare`."""

from pathlib import Path
from typing import Literal

import yaml
from rich.console import Console
from rich.markdown import Markdown

from pyro_simvae.inference.files import write_text


def compare(
    config: str, out: str | None = None, jobs: int | None = None, backend: Literal["local", "ray"] = "local"
) -> Path:
    """Fit and evaluate methods x seeds x data, and set their scores side by side in tables and one page.

    The same command again goes on where it stopped: finished runs are not repeated, failed ones are tried again.

    Args:
        config: a YAML file, such as configs/compare/digits.yaml: base, data, methods, seeds, reference, metrics.
        out: the folder of the comparison; by default comparisons/NAME of the config.
        jobs: runs at once; by default one a GPU, or else one a core.
        backend: this machine, or a Ray cluster, which must see the same files under the same paths.

    Returns:
        The folder, with scores.csv, scores.parquet, table.md, report.html, and the run folders under
        runs/DATA/METHOD/seed-SEED.

    Raises:
        InputError: an unknown method, metric or option, before anything runs; a run folder that was begun with
            another config.
        KeyboardInterrupt: after Ctrl-C; running fits write a checkpoint first.
    """
    from pyro_simvae.comparison import grid as grids
    from pyro_simvae.comparison.markdown import markdown
    from pyro_simvae.comparison.report import write_report
    from pyro_simvae.comparison.results import collect, read_failures, write
    from pyro_simvae.comparison.runner import run_all, tasks

    console = Console(soft_wrap=True)
    grid = grids.read(Path(config))
    folder = Path(out) if out else Path("comparisons") / Path(config).stem
    todo = tasks(grid, folder)
    failed = run_all(todo, folder, console, jobs, backend)
    write_text(folder / "comparison.yaml", yaml.safe_dump(grid.to_dict(), sort_keys=False, allow_unicode=True))
    scores, failures = collect(grid, folder), read_failures(grid, folder)
    write(scores, folder)
    table = markdown(scores, grid, failures)
    write_text(folder / "table.md", table)
    write_report(grid, scores, failures, folder)
    console.print(Markdown(table) if console.is_terminal else table, highlight=False, markup=False)
    if failed:
        console.print(f"{failed} of {len(todo)} runs failed; the same command tries them again", highlight=False)
    console.print(f"compared: {folder / 'report.html'}", highlight=False)
    return folder
