"""The SVI loop: explicit steps on Lightning Fabric, from any point to any other, bit for bit."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyro
import torch
from lightning.fabric import Fabric
from torch import Tensor

from pyro_simvae.data import Split, Views
from pyro_simvae.data.seen import check_seen, seen
from pyro_simvae.data.splits import index_batches
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import Ledger, LedgerELBO, sum_of_terms
from pyro_simvae.inference.files import CHECKPOINT_FORMAT, load_checkpoint, save_checkpoint, write_csv
from pyro_simvae.inference.memory import check_memory, explained
from pyro_simvae.inference.processes import Processes, join
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Engine, Training
from pyro_simvae.inference.step import Step
from pyro_simvae.likelihoods import check_support
from pyro_simvae.modalities import Modalities

Row = dict[str, float]
NOTHING: Mapping[str, Tensor] = {}
HEARD = 50
"""On GPUs, steps between two readings of what the processes have to say: a reading waits for the device."""
VALIDATED = 256
"""Least groups of a batch in validation, where they do not see each other."""
CHECKED = 256
"""Groups that `SVI.check` looks at where a process has fewer in its slice of the batch."""


class SVI:
    """Fits a (model, guide) pair to groups of views.

    A fit's whole state is its weights, the optimizer's, the random states, its position in the epoch's
    order and the rows of its metrics; `save` and `restore` carry exactly these. Where several processes fit together
    (`pyro_simvae.inference.processes`), each takes its slice of every batch, and the first one writes.

    Args:
        elbo: the pair.
        train, valid: groups to fit and to validate on.
        views: augmentation of one image into J views, or of each modality into one.
        training: settings.
        fabric: devices and precision; launched.
        folder: gets `metrics.csv` and `checkpoints/{last,best}.ckpt`; the best is the last where the objective moves
            during a fit (`Limit.stationary`), where patience never ends.
        seed: of the order of each epoch.
        engine: how steps are run, as in `Gradient`.

    Raises:
        InputError: fewer training groups than one batch, or a batch that processes cannot share equally.
    """

    def __init__(
        self,
        elbo: LedgerELBO,
        train: Split,
        valid: Split,
        views: Views,
        training: Training,
        fabric: Fabric,
        folder: Path,
        seed: int = 0,
        engine: Engine = "auto",
    ) -> None:
        if len(train) < training.num_groups:
            raise InputError(
                f"the training set has {len(train)} groups, fewer than a batch of {training.num_groups}: "
                "lower --training.num_groups"
            )
        self.elbo = elbo
        self.observes = elbo.observes
        self.training = training
        self.fabric = fabric
        self.processes = Processes(fabric)
        self.num_groups = self.processes.groups(training.num_groups)
        """Groups of a batch that are this process's."""
        self.folder = folder
        self.seed = seed
        self.train, self.valid = train.to(fabric.device), valid.to(fabric.device)
        self.views = views.to(fabric.device)
        elbo.to(fabric.device)
        if fabric.device.type == "cuda":
            for tensor in (*elbo.parameters(), *elbo.buffers()):
                if tensor.dim() == 4:
                    tensor.data = tensor.data.to(memory_format=torch.channels_last)
        if self.processes.size > 1:
            join(elbo)
        self.update = Step(elbo, self.views, training, fabric, engine, self._check_finite)
        self.steps_per_epoch = len(train) // training.num_groups
        self.epoch = 0
        self.step = 0  # within the epoch
        self.sums: dict[tuple[str, ...], Tensor] = {}  # of the epoch's terms, by the names of those in one step
        self.losses = torch.zeros(self.steps_per_epoch, device=fabric.device)  # of the epoch's steps on a GPU
        self.rows: list[Row] = []
        self.best = -math.inf
        self.stale_epochs = 0
        limit = getattr(elbo.model, "limit", None)
        self.stationary: bool = limit is None or limit.stationary

    def check(self) -> None:
        """Runs the pair once on the first training groups, with Pyro's checks on.

        Raises:
            InputError: a batch that does not fit in memory, data outside the likelihood's support, a latent site that
                only model or guide has, or whatever else the pair refuses.
        """
        size, num_views, device = self.num_groups, self.training.num_views, self.fabric.device
        autocast, num_processes = self.fabric.autocast, self.processes.size
        check_memory(self.elbo, self.train.event_shape, size, num_views, device, autocast, num_processes)
        # All processes look at the same groups: at the whole batch, unless it is large beside what they hold of it.
        order = torch.arange(min(self.training.num_groups, max(self.num_groups, CHECKED)))
        batch = next(self.train.batches(order, len(order), self.training.num_views))
        x, _ = self.views(batch.images, self.training.num_views)
        limit = getattr(self.elbo.model, "limit", None)
        if limit is None or limit.t < 1:  # at t = 1 the likelihood plays no part
            check_support(self.elbo.model, x)
        observed = self._observed(self.train, order)
        check_pair(self.elbo, x, observed)
        asked = self.update.gradient.engine in ("graph", "compile")
        if asked and self.processes.size > 1 and isinstance(x, Modalities):
            raise InputError("paired data on several devices are not captured: use --hardware.engine auto")
        self.update.gradient.check(x, observed)

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, progress: Progress) -> None:
        """Goes on from the present position to the last epoch, or until patience ends or Ctrl-C asks to stop.

        Raises:
            InputError: a non-finite loss; the message names the site, and the last good checkpoint stays.
            KeyboardInterrupt: after Ctrl-C, once the step is finished and its checkpoint written.
        """
        with _stop_on_interrupt() as interrupted, explained(self.training.num_groups):
            if self.update.joint is not None:
                interrupted = self.update.joint.agreed(interrupted)
            while self.epoch < self.training.epochs and not self._out_of_patience():
                self._epoch(progress, interrupted)

    def _epoch(self, progress: Progress, interrupted: Callable[[], bool]) -> None:
        start, done = time.perf_counter(), 0
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(len(self.train), generator=generator)
        batch_size, size = self.training.num_groups, self.num_groups
        order = order[self.step * batch_size : self.steps_per_epoch * batch_size]
        order = self.processes.own(order, batch_size)
        self.elbo.train()
        # Pyro's checks ran on the first batch (`check_pair`); here they would only cost time.
        with pyro.validation_enabled(False):
            batches = self.train.batches(order, size, self.training.num_views)
            for index, batch in zip(index_batches(order, size), batches, strict=True):
                ledger = self._step(batch.images, self._observed(self.train, index))
                self.step += 1
                done += batch_size
                progress.eager(self.update.eager_because)
                progress.step(
                    self.epoch,
                    self.step,
                    self.steps_per_epoch,
                    done / (time.perf_counter() - start),
                    ledger,
                    size,
                )
                if interrupted():
                    self.save("last")
                    self.processes.leave()
                    raise KeyboardInterrupt
                if self.training.checkpoint_steps and self.step % self.training.checkpoint_steps == 0:
                    self.save("last")
            self._check_losses()
            self._close_epoch(progress, done / (time.perf_counter() - start))

    def _step(self, images: Any, observed: Mapping[str, Tensor] = NOTHING) -> Ledger:
        position = self.epoch + self.step / self.steps_per_epoch
        rate = self.training.learning_rate * self._learning_rate_factor(position, 1 / self.steps_per_epoch)
        ledger = self.update(images, observed, rate, self._kl_weight(position))
        self._add(ledger, len(images))
        return ledger

    def _add(self, ledger: Ledger, num_groups: int) -> None:
        named = _named(ledger, num_groups)
        values = torch.stack(list(named.values())) / num_groups
        names = tuple(named)
        if self.fabric.device.type == "cuda":
            self.losses[self.step] = values[0]
        self.sums[names] = self.sums[names] + values if names in self.sums else values

    def _observed(self, split: Split, index: Tensor) -> dict[str, Tensor]:
        """What the pair asks for besides the views of the groups at `index` `(N,)`."""
        observed = {}
        if "labels" in self.observes:
            if split.labels is None:
                raise InputError(
                    "the story or its limit observes labels, and the data has none: choose data with labels"
                )
            observed["labels"] = split.labels[index]
        if "index" in self.observes:
            observed["index"] = index
        if self.fabric.device.type == "cuda":  # from pinned memory, for which nothing waits
            observed = {name: value.pin_memory() for name, value in observed.items()}
        return {name: value.to(self.fabric.device, non_blocking=True) for name, value in observed.items()}

    def _ledger(self, x: Tensor, kl_weight: float, observed: Mapping[str, Tensor]) -> Ledger:
        with self.fabric.autocast():
            return self.elbo(x, self.training.likelihood_weight, kl_weight, **observed)

    def _close_epoch(self, progress: Progress, rate: float) -> None:
        row: Row = {"epoch": self.epoch + 1, "kl_weight": self._kl_weight(self.epoch + 1)}
        train: Row = {}
        for names, values in self.sums.items():
            for name, value in zip(names, values.tolist(), strict=True):
                train[name] = train.get(name, 0.0) + value / self.steps_per_epoch
        train = self.processes.mean(train)
        row |= {f"train/{name}": value for name, value in _with_elbo(train).items()}
        row |= {f"valid/{name}": value for name, value in self.validate(self.valid).items()}
        self.rows.append(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        objective = row.get("valid/objective", row["train/objective"])
        better = objective > self.best or not self.stationary
        self.best = max(self.best, objective)
        self.stale_epochs = 0 if better else self.stale_epochs + 1
        self.save(*["best", "last"][not better :])
        self.fabric.log_dict({k: v for k, v in row.items() if k != "epoch"}, step=self.epoch)
        progress.epoch(row, self.training.epochs, rate)

    def validate(self, split: Split, seed: int = 0) -> Row:
        """The ledger's terms on a split, nats a group, with the final weights of the objective.

        The same `seed` gives the same views and draws, so that epochs and runs differ by their weights only. A limit
        compares the groups of a batch, so there only whole batches count. Pairs that observe the index know
        the training groups only: for them the result is empty. Processes share each batch, as in training.

        Raises:
            InputError: a non-finite term.
        """
        if "index" in self.observes:
            return {}
        size, count = self.training.num_groups, len(split)
        if hasattr(self.elbo.model, "limit"):
            count -= count % (size if count > size else self.processes.size)  # gathered slices are of one size
        else:
            size *= -(-VALIDATED // size)  # the sum is the same, in fewer and larger steps
        if not count:
            return {}
        order = self.processes.own(torch.arange(count), size)
        size //= self.processes.size
        totals: dict[str, Tensor] = {}
        self.elbo.eval()
        with rng.isolated(self.processes.seed(seed)), torch.no_grad():
            batches = split.batches(order, size, self.training.num_views)
            for index, batch in zip(index_batches(order, size), batches, strict=True):
                x, _ = self.views(batch.images, self.training.num_views)
                ledger = self._ledger(x, self.training.kl_weight, self._observed(split, index))
                for name, value in _named(ledger, len(x)).items():
                    totals[name] = totals[name] + value.double() if name in totals else value.double()
        self.elbo.train()
        sums = self.processes.sum(dict(zip(totals, torch.stack([*totals.values()]).tolist(), strict=True)))
        if not math.isfinite(sums["objective"]):
            self._refuse([name for name, value in sums.items() if not math.isfinite(value)])
        return _with_elbo({name: value / count for name, value in sums.items()})

    # -- schedules ----------------------------------------------------------------------------------------------

    def _kl_weight(self, position: float) -> float:
        """β at a position in epochs."""
        warmup = self.training.kl_warmup
        return self.training.kl_weight * (min(1.0, position / warmup) if warmup > 0 else 1.0)

    def _learning_rate_factor(self, position: float, step: float) -> float:
        """What a step multiplies the learning rate by, at a position in epochs, of which it takes `step`."""
        warmup, epochs = self.training.learning_rate_warmup, self.training.epochs
        if position + step <= warmup + 1e-9:  # lest rounding leaves the last one to the schedule
            return (position + step) / warmup
        if self.training.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (position - warmup) / max(epochs - warmup, step))))

    def _out_of_patience(self) -> bool:
        return self.training.patience is not None and self.stale_epochs >= self.training.patience

    def _check_finite(self, ledger: Ledger) -> None:
        """Raises InputError on all processes alike where the loss of any is not finite, before the weights move.

        Several GPUs are asked every `HEARD` steps only.
        """
        joint = self.update.joint
        if joint is not None and self.fabric.device.type == "cuda" and self.step % HEARD:
            return
        loss = ledger.objective.item() if joint is None else joint.hear()
        if math.isfinite(loss):
            return
        bad = [name for name, value in ledger.terms.items() if not value.isfinite()]
        self._refuse([name for names in self.processes.collect(bad) for name in names])

    def _check_losses(self) -> None:
        """The same for the epoch's steps so far, for a GPU, which nothing may wait for in between."""
        if self.fabric.device.type != "cuda":
            return
        bad = self.processes.collect([int(step) for step in self.losses.isfinite().logical_not().nonzero()])
        if not any(bad):
            return
        self.step = min(step for steps in bad for step in steps)
        sums = {
            n: value for names, values in self.sums.items() for n, value in zip(names, values.tolist(), strict=True)
        }
        self._refuse([name for name, value in sums.items() if not math.isfinite(value)])

    def _refuse(self, names: list[str]) -> NoReturn:
        """Says that these terms are not finite, once for all processes."""
        self.processes.leave()
        bad = [name for name in dict.fromkeys(names) if name.startswith(("log_", "penalty/"))] or ["objective"]
        kept = self.folder / "checkpoints" / "last.ckpt"
        state = f"the last good checkpoint is {kept}" if kept.exists() else "no epoch was finished"
        raise InputError(
            f"{', '.join(bad)} not finite at epoch {self.epoch + 1}, step {self.step + 1}; {state}: "
            "lower --training.learning_rate, or set --training.gradient_clip or --training.kl_warmup"
        )

    # -- state --------------------------------------------------------------------------------------------------

    def save(self, *names: str) -> None:
        """Writes the state once, as `checkpoints/NAME.ckpt` for each name, and `metrics.csv`; each atomically."""
        self._check_losses()
        own, *others = self.processes.collect({"rng": rng.get_state(), "sums": self.sums})
        if self.processes.rank:
            return
        state = {
            "format": CHECKPOINT_FORMAT,
            "data": seen(self.train, self.valid),
            "weights": self.elbo.state_dict(),
            "optimizer": self.update.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            **own,
            "others": others,
            "rows": self.rows,
            "best": self.best,
            "stale_epochs": self.stale_epochs,
        }
        save_checkpoint([self.folder / "checkpoints" / f"{name}.ckpt" for name in names], state)
        if "last" in names and self.rows:
            write_csv(self.folder / "metrics.csv", self.rows)

    def restore(self, name: str) -> None:
        """Reads `checkpoints/NAME.ckpt`, of any number of processes.

        Of as many processes each goes on with its own draws; of others, those beyond the old number begin new ones.

        Raises:
            InputError: it does not fit this pair.
        """
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        state = load_checkpoint(path)
        check_seen(state.get("data", {}), self.train, self.valid, self.folder)
        load_weights(self.elbo, state["weights"], path)
        self.update.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.rows, self.best, self.stale_epochs = state["rows"], state["best"], state["stale_epochs"]
        parts, rank = [state, *state.get("others", [])], self.processes.rank
        if rank < len(parts):
            rng.set_state(parts[rank]["rng"])
        # Each process's share of the epoch's means; all have the same one where the old shares are not theirs.
        parts, share = ([parts[rank]], 1) if len(parts) == self.processes.size else (parts, len(parts))
        self.sums = {}
        for part in parts:
            for names, values in part["sums"].items():
                values = values.to(self.fabric.device) / share
                self.sums[names] = self.sums[names] + values if names in self.sums else values


def load_weights(elbo: LedgerELBO, weights: dict[str, Any], path: Path) -> None:
    """Loads a state dict. Raises InputError where its names or shapes are another pair's."""
    try:
        elbo.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{path} holds the weights of another story, guide or network: use the config it was written with"
        ) from error


def check_pair(elbo: LedgerELBO, x: Tensor, observed: Mapping[str, Tensor] = NOTHING) -> None:
    """Runs the pair once on one batch with Pyro's checks on.

    Args:
        x: `(N, J, *event)`.
        observed: what the pair observes besides.

    Raises:
        InputError: latent sites that only one of the two has.
    """
    with pyro.validation_enabled(True), torch.no_grad():
        model, guide = elbo.latents(x, **observed)
    if missing := sorted(model - guide):
        raise InputError(f"the guide does not sample the story's site {missing[0]!r}: add it to the guide")
    if extra := sorted(guide - model):
        raise InputError(f"the guide samples {extra[0]!r}, which the story does not have: remove it from the guide")


def _named(ledger: Ledger, num_groups: int) -> dict[str, Tensor]:
    """What is logged, summed over the groups of the batch."""
    limit = {f"limit/{name}": num_groups * value for name, value in ledger.limit.items()}
    if limit:
        limit["limit/loss"] = torch.stack(list(limit.values())).sum()
    named = {"objective": ledger.objective, **ledger.terms, **limit}
    return {name: value.detach() for name, value in named.items()}


def _with_elbo(row: Row) -> Row:
    """The same row, with the ELBO after the objective."""
    terms = {name: value for name, value in row.items() if name.startswith(("log_p/", "log_q/"))}
    return {"objective": row["objective"], "elbo": sum_of_terms(terms)} | row


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the loop asks after each step, so that no step is left half done."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def first_views(split: Split, views: Views, num_groups: int, num_views: int) -> Tensor:
    """Views of a split's first groups, `(N, J, *event)`."""
    order = torch.arange(min(num_groups, len(split)))
    (batch,) = islice(split.batches(order, len(order), num_views), 1)
    return views(batch.images, num_views)[0]
