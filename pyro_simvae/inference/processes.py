"""The processes that fit one run together, one a device: what each takes of a batch, and what all must know alike.

A step's batch is the joint one. Each of W processes takes its slice, and DDP averages the gradients of the slices'
mean losses, so that the step is that of one process with the whole batch. Every process holds the same weights, the
same state of limits (they `gather` what they need) and the same position; the draws are its own.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen, TimeoutExpired
from typing import Any, TypeVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import Ledger, LedgerELBO
from pyro_simvae.inference.joint_norm import join_batch_norm

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds that other processes have to end by themselves once the first has failed."""


class Processes:
    """This process among those of a run.

    Args:
        fabric: launched.

    Attributes:
        rank: of this process, from 0; the first one writes and prints.
        size: W.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.rank = fabric.global_rank
        self.size = fabric.world_size

    def groups(self, num_groups: int) -> int:
        """This process's groups of a batch. Raises InputError where processes cannot share it equally."""
        if num_groups % self.size:
            more = num_groups + self.size - num_groups % self.size
            raise InputError(
                f"{self.size} processes cannot share a batch of {num_groups} groups equally: "
                f"give a multiple, such as --training.num_groups {more}"
            )
        return num_groups // self.size

    def own(self, order: Tensor, num_groups: int) -> Tensor:
        """Of `order` `(m,)`, cut into batches of `num_groups`, this process's slice of each."""
        return torch.cat([batch.tensor_split(self.size)[self.rank] for batch in order.split(num_groups)])

    def seed(self, seed: int) -> int:
        """Of this process's draws; the first one's are those of a single process."""
        return seed + 2_654_435_761 * self.rank

    def collect(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def first(self, value: T) -> T:
        """The first process's value."""
        return self.collect(value)[0]

    def mean(self, rows: dict[str, float]) -> dict[str, float]:
        """Means over processes, by name."""
        return {name: value / self.size for name, value in self.sum(rows).items()}

    def sum(self, rows: dict[str, float]) -> dict[str, float]:
        """Sums over processes, by name."""
        total: dict[str, float] = {}
        for each in self.collect(rows):
            for name, value in each.items():
                total[name] = total.get(name, 0.0) + value
        return total

    @contextmanager
    def alike(self) -> Iterator[None]:
        """An error inside, on whichever process, ends all: the first one raises it, the others leave quietly.

        Inside, nothing may wait for the other processes but what all of them reach.
        """
        error: Exception | None = None
        try:
            yield
        except (InputError, OSError) as caught:
            error = caught
        for found in self.collect(error):
            if found is not None:
                self.leave()
                raise error or found

    def leave(self) -> None:
        """Ends every process but the first, which goes on to say why."""
        if self.rank:
            raise SystemExit(0)


class Joint(nn.Module):
    """The pair as DDP wraps it, with a parameter whose gradient brings what each process has to say to all.

    The gradient of `news` is (loss, 1 where the process wants to stop), and DDP averages it with the others: no
    message of its own is needed for all to know of a loss that is not finite, or of Ctrl-C, at the same step.

    Args:
        elbo: the pair.
    """

    def __init__(self, elbo: LedgerELBO) -> None:
        super().__init__()
        self.elbo = elbo
        self.news = nn.Parameter(torch.zeros(2))
        self.unused = nn.Parameter(torch.zeros(()))  # DDP warns of a search for unused parameters that finds none
        self.wants_to_stop: Callable[[], bool] = bool
        self.stop = False

    def forward(self, x: Any, *weights: float, **observed: Tensor) -> Ledger:
        """As the pair's, for this process's slice of the batch."""
        ledger: Ledger = self.elbo(x, *weights, **observed)
        said = torch.stack([ledger.objective.detach(), ledger.objective.new_full((), -len(x) * self.wants_to_stop())])
        return ledger._replace(objective=ledger.objective + (self.news * said).sum())

    def agreed(self, wants_to_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Whether any process wanted to stop at the last step, given whether this one wants to."""
        self.wants_to_stop = wants_to_stop
        return lambda: self.stop

    def overhear(self) -> None:
        """After the backward pass, in place of `hear`: what was said is left for later."""
        self.news.grad = None

    def hear(self) -> float:
        """After the backward pass: the joint loss, nats a group."""
        assert self.news.grad is not None
        loss, stop = self.news.grad.tolist()
        self.news.grad = None
        self.stop = stop != 0
        return loss


def join(elbo: LedgerELBO, fabric: Fabric) -> tuple[Joint, DistributedDataParallel]:
    """The pair for W processes: batch norm over the joint batch, and gradients averaged as they are computed.

    Which parameters a step uses is found out at each: a limit leaves the decoder out. Buffers are not sent, for those
    of limits are alike by construction, and a memory of the whole training set would be sent at every step.
    """
    join_batch_norm(elbo, fabric.device)
    joint = Joint(elbo).to(fabric.device)
    devices = None if fabric.device.type == "cpu" else [fabric.device]
    options: Any = {"find_unused_parameters": True, "broadcast_buffers": False, "gradient_as_bucket_view": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name of broadcast_buffers is not in older versions
        return joint, DistributedDataParallel(joint, devices, **options)


@contextmanager
def launched(fabric: Fabric) -> Iterator[Processes]:
    """Starts the other processes where that is left to us, and sees to it that none is left behind.

    Raises:
        InputError: another process failed; it has said why.
    """
    with _quiet("lightning.fabric", "lightning.pytorch"):
        fabric.launch()
    processes = Processes(fabric)
    children: Sequence[Popen[bytes]] = getattr(fabric.strategy.launcher, "procs", ())
    try:
        yield processes
        if processes.size > 1:
            fabric.barrier()
    except BaseException as error:
        if processes.rank and isinstance(error, InputError):
            raise SystemExit(f"pyro-simvae: error in process {processes.rank}: {error}") from error
        if (failed := _end(children)) and not isinstance(error, (InputError, KeyboardInterrupt)):
            raise InputError(f"process {failed} failed, which ended the fit: see its message above") from error
        raise
    finally:
        if processes.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
    for child in children:
        child.wait()


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Only warnings of a library's logs."""
    levels = {log: log.level for log in map(logging.getLogger, loggers)}
    for log in levels:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def _end(children: Sequence["Popen[bytes]"]) -> int:
    """Waits for the other processes to end, and ends those that do not. Returns which failed by itself, 0 if none."""
    failed = 0
    for rank, child in enumerate(children, 1):
        try:
            status = child.wait(PATIENCE)
        except TimeoutExpired:
            child.kill()
            continue
        failed = failed or (rank if status else 0)
    return failed
