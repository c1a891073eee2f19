"""One cell of a comparison, from nothing or from where it stopped: fit, evaluate, and what both have cost.

Beside the run folder seed-S lie seed-S.log, what the cell printed, and seed-S.failure.json, why it failed, if it did.
In it, cell.json says which of the two steps are done.
"""

import json
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pyro_simvae import commands
from pyro_simvae.comparison.grid import Cell, flat
from pyro_simvae.components import KNOWN, normalize
from pyro_simvae.errors import InputError
from pyro_simvae.experiment import Config, read_run
from pyro_simvae.inference import heap
from pyro_simvae.inference.files import write_text

Record = dict[str, Any]
VERSIONS = ("pyro-simvae", "torch", "pyro-ppl", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Task:
    """A cell to run.

    Args:
        cell: which.
        folder: its run folder.
        metrics: families of metrics that `evaluate` computes; None for all.
        representations: which it scores; None for all.
        pictures: draw the latents with thumbnails too.
    """

    cell: Cell
    folder: Path
    metrics: tuple[str, ...] | None = None
    representations: tuple[str, ...] | None = None
    pictures: bool = False

    @property
    def scores(self) -> dict[str, list[str] | None]:
        """What `evaluate` is asked for."""
        asked = {"metrics": self.metrics, "representations": self.representations}
        return {name: None if names is None else list(names) for name, names in asked.items()}

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def failure(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.failure.json")


def run(task: Task) -> Record:
    """Fits and evaluates what of a cell is not done yet.

    Returns:
        What it writes to cell.json: for "fit" and "evaluation" the "seconds" they took (None of a fit made in several
        parts), "peak_memory" in bytes of this process, and "peak_gpu_memory"; device and versions.

    Raises:
        InputError: as `fit` and `evaluate`.
    """
    folder, config = task.folder, task.cell.config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        _import_late()
        record = read(folder)
        if "fit" not in record:
            resume = (folder / "checkpoints" / "last.ckpt").is_file()
            if not resume:  # stopped before its first step: nothing to go on from
                shutil.rmtree(folder, ignore_errors=True)
            with _measured() as cost:
                options = {field.name: getattr(config, field.name) for field in fields(Config)}
                commands.fit(**options, out=str(folder), resume=resume)
            record = {"fit": cost | ({"seconds": None} if resume else {}), "device": device(config), **_versions()}
            _write(folder, record)
        if not is_evaluated(task, record):
            with _measured() as cost:
                commands.evaluate(str(folder), metrics=task.metrics, representations=task.representations)
            record |= {"evaluation": cost, **task.scores}
            _write(folder, record)
        if task.pictures and not (folder / "figures" / "thumbnails.png").is_file():
            from pyro_simvae.figures.thumbnails import draw_run

            draw_run(folder)
        return record


def read(folder: Path) -> Record:
    """The record of a cell; empty before it is fitted."""
    path = folder / "cell.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def is_evaluated(task: Task, record: Record) -> bool:
    """Whether the run holds all scores that the task asks for."""
    if "evaluation" not in record or not (task.folder / "evaluation.json").is_file():
        return False
    return all(record[name] == asked for name, asked in task.scores.items())


def is_done(task: Task) -> bool:
    """Whether there is nothing left to do."""
    return not task.failure.is_file() and is_evaluated(task, read(task.folder))


def check(task: Task) -> None:
    """Raises InputError where the folder holds a run that was begun with another config."""
    folder = task.folder
    if not (folder / "config.yaml").is_file():
        return
    if changed := differences(read_run(folder), task.cell.config, folder):
        raise InputError(
            f"{folder} was begun with another {', '.join(changed)}: delete that folder to fit it anew, "
            "or choose another --out"
        )


def differences(old: Config, new: Config, folder: Path) -> list[str]:
    """The options, dotted, in which a run's config is not the one that is asked for.

    Hardware may change. A file of the user's may move, but not its content: the run has a copy of it in `folder`.
    """
    before, after = (flat(_comparable(config)) for config in (old, new))
    names = dict.fromkeys([*before, *after])
    changed = [name for name in names if before.get(name, _MISSING) != after.get(name, _MISSING)]
    for kind in KNOWN:
        spec = getattr(new, kind)
        file = None if spec is None else normalize(kind, spec)["class_path"].rpartition(":")[0]
        copy = folder / f"{kind}.py"
        if file and file.endswith(".py") and copy.is_file() and copy.read_bytes() != Path(file).read_bytes():
            changed.append(f"{kind} ({file} has changed)")
    return changed


_MISSING = object()


def _comparable(config: Config) -> dict[str, Any]:
    plain = config.to_dict()
    del plain["hardware"]
    for kind in KNOWN:
        if plain[kind] is not None:
            plain[kind]["class_path"] = plain[kind]["class_path"].rpartition(":")[2]
    return plain


def _write(folder: Path, record: Record) -> None:
    write_text(folder / "cell.json", json.dumps(record, indent=2) + "\n")


def _versions() -> Record:
    return {"versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}}


def _import_late() -> None:
    """What fits import when they need it: the first one of a process should not be charged for it."""
    import sklearn.linear_model  # noqa: F401

    import pyro_simvae.figures.gallery  # noqa: F401


# -- cost -------------------------------------------------------------------------------------------------------


@contextmanager
def _measured() -> Iterator[Record]:
    """A dictionary that holds seconds and peaks of memory once the block has ended."""
    cost: Record = {}
    _reset_peak()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    yield cost
    cost["seconds"] = time.perf_counter() - start
    cost["peak_memory"] = peak_memory()
    cost["peak_gpu_memory"] = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None


def _reset_peak() -> None:
    # A process that fits one run after another keeps the largest peak of all unless it is reset (Linux only), and what
    # the runs before have freed.
    heap.give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int | None:
    """The largest resident size of this process since the last reset, in bytes; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(sizes[0]) if sizes else None


def device(config: Config) -> str:
    """The name of the device that a fit of this config uses here."""
    if config.hardware.accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
