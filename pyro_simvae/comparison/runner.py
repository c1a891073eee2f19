"""Running the cells of a grid: what is done stays, the rest runs on a backend, and what fails fails alone."""

import json
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyro_simvae.comparison import ray_backend, slots
from pyro_simvae.comparison.cell import Record, Task, check, is_done, run
from pyro_simvae.comparison.grid import Grid
from pyro_simvae.comparison.methods import RAW, UNTRAINED
from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import write_text

Backend = Literal["local", "ray"]

SCORED = ("z", "content", "style", "features")
"""Representations that every method may have."""


def tasks(grid: Grid, out: Path) -> list[Task]:
    """What is to be run for each cell of the grid."""
    return [
        Task(
            cell,
            cell.folder(out),
            grid.metrics,
            _representations(grid, cell.method),
            pictures=cell.seed == grid.seeds[0],
        )
        for cell in grid.cells()
    ]


def _representations(grid: Grid, method: str) -> tuple[str, ...]:
    if method != UNTRAINED:
        return (*SCORED, "story")
    return (*SCORED, RAW) if RAW in grid.methods else SCORED


def run_all(
    todo: Sequence[Task], out: Path, console: Console, jobs: int | None = None, backend: Backend = "local"
) -> int:
    """Runs the tasks that are not done, with a progress over all of them.

    A task that fails gets a file with the reason beside its run folder; the next call tries it again.

    Args:
        todo: all tasks of the grid.
        out: the comparison's folder.
        console: gets the progress; a line a task where it is no terminal.
        jobs: how many at once; by default as many as the devices allow.
        backend: of this machine, or Ray.

    Returns:
        How many failed.

    Raises:
        InputError: a run folder was begun with another config; another comparison is running in `out`.
        KeyboardInterrupt: after Ctrl-C; the same call again goes on.
    """
    for task in todo:
        check(task)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another comparison is running in {out}: wait for it, or choose another --out") from error
    with lock:
        left = [task for task in todo if not is_done(task)]
        return _run(left, len(todo), console, jobs, backend)


def _run(left: Sequence[Task], total: int, console: Console, jobs: int | None, backend: Backend) -> int:
    if len(left) < total:
        console.print(f"{total - len(left)} of {total} runs are done already", highlight=False)
    if not left:
        return 0
    results: Iterator[tuple[Task, Record | BaseException]]
    if backend == "ray":
        results = ray_backend.run(run, left, jobs)
    else:
        places = slots.slots(jobs, len(left))
        where = f"{len(places)} at once, {places[0].threads} thread{'s' if places[0].threads > 1 else ''} each"
        console.print(f"{len(left)} runs, {where}", highlight=False)
        results = slots.run(run, left, places)
    failed = 0
    done = total - len(left)
    with _bar(console) as bar, closing(results):  # type: ignore[type-var]  # generators have close
        task_id = bar.add_task("runs", total=total, completed=done)
        for task, result in results:
            done += 1
            if isinstance(result, BaseException):
                failed += 1
                reason = _fail(task, result)
                line = f"failed: {reason}"
            else:
                task.failure.unlink(missing_ok=True)
                line = _spent(result)
            console.print(f"[{done}/{total}] {task.cell}: {line}", highlight=False, markup=False)
            bar.update(task_id, completed=done)
    return failed


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _spent(record: Record) -> str:
    fit, evaluation = (record[step]["seconds"] for step in ("fit", "evaluation"))
    return f"fitted{'' if fit is None else f' in {fit:.1f} s'}, evaluated in {evaluation:.1f} s"


def _fail(task: Task, error: BaseException) -> str:
    """Notes why a task failed. Returns the reason, one line."""
    message = " ".join(str(error).split("\nTrace Shapes")[0].split())  # Pyro appends its trace
    reason = message if isinstance(error, InputError) else f"{type(error).__name__}: {message}"
    if isinstance(error, BrokenProcessPool):
        reason = (
            "its process ended: killed, perhaps for want of memory, or, from a script, lacking its line if "
            "__name__ == '__main__':"
        )
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    cell = task.cell
    plain = {"data": cell.data, "method": cell.method, "seed": cell.seed, "reason": reason, "log": task.log.name}
    write_text(task.failure, json.dumps(plain, indent=2) + "\n")
    with task.log.open("a", encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
    return reason
