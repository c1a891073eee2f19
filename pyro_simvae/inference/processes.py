"""The processes that fit one run together, one a device: what each takes of a batch, and what all must know alike.

A step's batch is the joint one. Each of W processes takes its slice, and the gradients of their shares of the loss are
added up, so that the step is that of one process with the whole batch. Every process holds the same weights, the same
state of limits (they `gather` what they need) and the same position; the draws are its own.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen, TimeoutExpired
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed, nn

from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import of_all
from pyro_simvae.inference.joint_norm import join_batch_norm

T = TypeVar("T")
LARGE = 2**16
"""Numbers of a gradient from which it travels by itself; smaller ones travel together."""
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
        return [value] if self.size == 1 else of_all(value)

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


class Joint:
    """The gradient of the joint loss, and with it what each process has to say to all.

    What is said is (its share of the loss, 1 where it wants to stop). It travels with the small gradients, so that no
    message of its own is needed for all to know of a loss that is not finite, or of Ctrl-C, at the same step.

    Args:
        parameters: those that are trained, in the same order in every process.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.wants_to_stop: Callable[[], bool] = bool
        self.stop = False

    @torch.no_grad()
    def add_up(self, share: Tensor, alike: bool) -> None:
        """Puts the sum over processes in the place of each gradient.

        Args:
            share: this process's of the joint loss, `()`.
            alike: every process has gradients of the same parameters. Otherwise they find out; what none has a
                gradient of, such as the decoder under a limit, is left without.
        """
        absent = [] if alike else [place for place, p in enumerate(self.parameters) if p.grad is None]
        small = [torch.stack([share, share.new_full((), self.wants_to_stop())])]
        if not alike:
            small.append(share.new_tensor([p.grad is not None for p in self.parameters]))
            for place in absent:
                self.parameters[place].grad = torch.zeros_like(self.parameters[place])
            _part(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        large = [gradient for gradient in gradients if gradient.numel() >= LARGE]
        sums = [distributed.all_reduce(_memory(gradient), async_op=True) for gradient in large]
        small += [gradient for gradient in gradients if gradient.numel() < LARGE]
        joined = torch.cat([each.reshape(-1) for each in small])
        distributed.all_reduce(joined)
        for each, total in zip(small, joined.split([each.numel() for each in small]), strict=True):
            each.copy_(total.view_as(each))
        for total in sums:
            total.wait()
        self.said = small[0]
        if absent:
            used = small[1].tolist()
            for place in absent:
                if not used[place]:
                    self.parameters[place].grad = None

    def agreed(self, wants_to_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Whether any process wanted to stop at the last step, given whether this one wants to."""
        self.wants_to_stop = wants_to_stop
        return lambda: self.stop

    def hear(self) -> float:
        """After `add_up`: the joint loss, nats a group."""
        loss, stop = self.said.tolist()
        self.stop = stop != 0
        return loss


def join(module: nn.Module) -> None:
    """Makes a module one of W: with the first process's weights and state, and batch norm over the joint batch."""
    join_batch_norm(module)
    for tensor in (*module.parameters(), *module.buffers()):
        value = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(value, 0)
        tensor.detach().copy_(value)


def _part(parameters: Sequence[Tensor]) -> None:
    """Gives gradients that a backward pass left in the same memory one of their own each."""
    taken = set()
    for parameter in parameters:
        assert parameter.grad is not None
        if (place := parameter.grad.untyped_storage().data_ptr()) in taken:
            parameter.grad = parameter.grad.clone()
        taken.add(place)


def _memory(tensor: Tensor) -> Tensor:
    """A tensor's numbers in the order in which they lie in memory, `(n,)`, which is the same in every process."""
    return tensor.as_strided((tensor.numel(),), (1,))


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
