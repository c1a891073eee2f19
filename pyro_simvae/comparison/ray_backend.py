"""The Ray backend: a cell a remote task, on a cluster or on this machine."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pyro_simvae.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def run(work: Callable[[T], R], items: Sequence[T], jobs: int | None = None) -> Iterator[tuple[T, R | BaseException]]:
    """`work` on every item as tasks of Ray; results in the order in which they come.

    It joins the cluster that RAY_ADDRESS names, or the one of this process, or starts one on this machine. All nodes
    must see the same files under the same paths. A task takes one GPU where the cluster has any, else one core.

    Args:
        work: importable on every node.
        items: what can be pickled.
        jobs: tasks at once; by default as many as there are GPUs or cores.

    Yields:
        (item, what `work` returned or raised).

    Raises:
        InputError: Ray is not installed.
        KeyboardInterrupt: after Ctrl-C, once the tasks were told to stop.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("the backend ray needs Ray: pip install 'pyro-simvae[ray]', or use --backend local") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    gpus = ray.cluster_resources().get("GPU", 0)
    remote: Any = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=0)(_in_folder)
    left, running = list(items), dict[Any, T]()
    most = jobs or len(left)
    try:
        while left or running:
            while left and len(running) < most:
                item = left.pop(0)
                running[remote.remote(os.getcwd(), work, item)] = item
            (done,), _ = ray.wait(list(running))
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                result = error.cause
                result.__cause__ = _Remote(str(error))
            except ray.exceptions.RayError as error:  # a node or a worker that died
                result = error
            yield running.pop(done), result
    finally:
        for task in running:
            ray.cancel(task)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)
        if ours:
            ray.shutdown()


PATIENCE = 30.0
"""Seconds that running tasks get after Ctrl-C."""


class _Remote(Exception):
    """The traceback of another process, as text."""


def _in_folder(folder: str, work: Callable[[T], R], item: T) -> R:
    os.chdir(folder)  # where relative paths of the options begin
    return work(item)
