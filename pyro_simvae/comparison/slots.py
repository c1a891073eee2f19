"""The local backend: a machine's devices as slots, each with a worker process of its own."""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch

from pyro_simvae.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

MOST_JOBS = 8
"""Slots of a machine without GPUs, at most, unless asked for more: each holds torch and a data set in memory."""
PATIENCE = 30.0
"""Seconds that running cells get after Ctrl-C, to finish their step and write a checkpoint."""


@dataclass(frozen=True)
class Slot:
    """What a worker may use: so many threads, and of the GPUs the one with this id in CUDA_VISIBLE_DEVICES."""

    threads: int
    gpu: str | None = None


def slots(jobs: int | None, count: int) -> list[Slot]:
    """The slots of this machine: by default one a GPU, or else one a core, at most 8, and never more than cells.

    Args:
        jobs: how many; they share GPUs and cores evenly.
        count: cells to run.

    Raises:
        InputError: `jobs` is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}: give 1 or more")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if gpus and visible:
        gpus = visible.split(",")[: len(gpus)]
    cores = num_cores()
    jobs = max(1, min(jobs or len(gpus) or min(cores, MOST_JOBS), count))
    threads = max(1, cores // jobs)
    return [Slot(threads, gpus[index % len(gpus)] if gpus else None) for index in range(jobs)]


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(work: Callable[[T], R], items: Sequence[T], places: Sequence[Slot]) -> Iterator[tuple[T, R | BaseException]]:
    """`work` on every item, on all slots at once; results in the order in which they come.

    A worker stays for many items, so that torch is imported once. One that dies, from want of memory perhaps, fails
    the item that it had, and its slot gets another. When this process ends, however it does, the workers end.

    Yields:
        (item, what `work` returned or raised).

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the cells that were running have written a checkpoint.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[T, R | BaseException]] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    stop = threading.Event()
    workers = [_Worker(slot) for slot in places]
    threads = [
        threading.Thread(target=_serve, args=(worker, work, waiting, results, stop), daemon=True) for worker in workers
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in items:
            item, result = results.get()
            if isinstance(result, KeyboardInterrupt):
                raise KeyboardInterrupt
            yield item, result
    finally:
        stop.set()
        try:
            _interrupt(workers, threads)
        finally:  # also after another Ctrl-C
            for worker in workers:
                worker.close()


def _interrupt(workers: Sequence["_Worker"], threads: Sequence[threading.Thread]) -> None:
    """Ends what is running, as Ctrl-C does, and waits for it."""
    deadline = time.monotonic() + PATIENCE
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        for worker in workers:  # again and again: one that was between two items has missed it
            worker.interrupt()
        for thread in threads:
            thread.join(1 / len(threads))


def _serve(
    worker: "_Worker",
    work: Callable[[T], R],
    waiting: "queue.SimpleQueue[T]",
    results: "queue.SimpleQueue[tuple[T, R | BaseException]]",
    stop: threading.Event,
) -> None:
    # A process inherits the signals that are blocked: Ctrl-C does not reach one that is still importing.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    while not stop.is_set():
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            return
        future = worker.submit(work, item)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            worker.replace()
        results.put((item, future.result() if error is None else error))


class _Worker:
    """A process at a slot."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # forked, a process has neither CUDA nor sound locks
        return ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self.slot,))

    def submit(self, work: Callable[[T], R], item: T) -> "Future[R]":
        try:
            return self.pool.submit(_interruptible, work, item)
        except BrokenProcessPool:  # it died between two items
            self.replace()
            return self.pool.submit(_interruptible, work, item)

    def replace(self) -> None:
        self.pool.shutdown(wait=False)
        self.pool = self._new()

    def interrupt(self) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):  # it may have ended since
                os.kill(pid, signal.SIGINT)

    def close(self) -> None:
        for process in self._processes().values():
            process.kill()
        self.pool.shutdown()

    def _processes(self) -> dict[int, multiprocessing.process.BaseProcess]:
        processes = getattr(self.pool, "_processes", None) or {}  # concurrent.futures does not publish them
        return {pid: process for pid, process in list(processes.items()) if process.is_alive()}


def _interruptible(work: Callable[[T], R], item: T) -> R:
    """`work`, which Ctrl-C ends; between two items a worker takes no notice of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fit has its own, which writes a checkpoint
    try:
        return work(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _begin(slot: Slot) -> None:
    """What a worker does first."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    torch.set_num_threads(slot.threads)
    threadpool_limits(slot.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's worker whose parent was killed would go on, and write into a run that someone has begun to resume.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
