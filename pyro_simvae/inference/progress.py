"""What a fit shows while it runs: a bar with rate, time left and terms; a line an epoch that stays."""

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pyro_simvae.inference.elbo import Ledger
from pyro_simvae.sites import is_view

REFRESH = 0.25
"""Seconds between two readings of the loss: reading it waits for the device."""


class Progress:
    """Use as a context manager. Where the output is no terminal, only the lines appear."""

    def __init__(self, console: Console, epochs: int) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} groups/s, whole fit"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.notes: set[str] = set()
        self.read = -math.inf
        self.epochs = epochs
        self.task = self.bar.add_task("fit", total=None, epoch=f"1/{epochs}", rate="", terms="")

    def __enter__(self) -> "Progress":
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, value, trace)

    def eager(self, reason: str | None) -> None:
        """Says once why steps are not replayed as a graph; None where they are."""
        if reason is not None and reason not in self.notes:
            self.notes.add(reason)
            self.console.print(f"steps are not replayed as one graph, since {reason}", highlight=False)

    def step(self, epoch: int, step: int, steps: int, rate: float, ledger: Ledger, num_groups: int) -> None:
        """After each step; `rate` in groups a second."""
        now = time.monotonic()
        if self.bar.disable or (now - self.read < REFRESH and step != steps):
            return
        self.read = now
        if ledger.limit:
            terms = " ".join(f"{name} {float(value):.3f}" for name, value in ledger.limit.items())
        else:
            terms = f"ELBO {float(ledger.elbo) / num_groups:.1f} = " + " ".join(
                f"{'-' if name.startswith('log_q') else '+'} {name} {float(value) / num_groups:.1f}"
                for name, value in ledger.terms.items()
            )
        self.bar.update(
            self.task,
            completed=epoch * steps + step,
            total=self.epochs * steps,
            epoch=f"{epoch + 1}/{self.epochs}",
            rate=f"{rate:.0f}",
            terms=terms,
        )

    def epoch(self, row: dict[str, float], epochs: int, rate: float) -> None:
        """After each epoch: its line."""
        width = int(math.log10(epochs)) + 1
        if "train/limit/loss" in row:
            parts = [name.removeprefix("train/limit/") for name in row if name.startswith("train/limit/")]
            terms = "  ".join(f"{part} {row[f'train/limit/{part}']:.4f}" for part in parts)
            valid = f"  valid loss {row['valid/limit/loss']:.4f}" if "valid/limit/loss" in row else ""
            text = f"train {terms}{valid}"
            if row.get("train/log_q/z"):  # t < 1: the guide is no point yet, and the loss a part of the objective
                text = f"objective train {row['train/objective']:.2f} nats a group, at its limit: {terms}{valid}"
        else:
            split = "valid" if "valid/elbo" in row else "train"
            observed = sum(value for name, value in row.items() if is_view(name.removeprefix(f"{split}/log_p/")))
            valid = f"  valid {row['valid/elbo']:.2f}" if split == "valid" else ""
            text = f"ELBO train {row['train/elbo']:.2f}{valid}  log p(x|z) {observed:.2f}  nats a group"
        self.console.print(f"epoch {row['epoch']:>{width}.0f}/{epochs}  {text}, {rate:.0f} groups/s", highlight=False)
