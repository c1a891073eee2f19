"""A whole step on a GPU as one CUDA graph: the host launches it once, whatever the number of its operations."""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pyro_simvae.errors import InputError, first_line

Outputs = TypeVar("Outputs")
WARM_UP = 3
"""Calls before the capture, in which libraries and optimizers make what they keep."""


class CUDAGraph(Generic[Outputs]):
    """A function of tensors on a GPU that is run a few times as it is, then captured, then replayed.

    All that it reads besides its inputs must stay in the same memory from call to call, and it may not wait for the
    GPU. The last call before the capture shows whether it does.

    Args:
        function: from tensors to tensors in any container; may write into tensors of its own, such as weights.

    Raises:
        RuntimeError: at the third call, a function that waits for the GPU.
        InputError: at the fourth, one that cannot be captured all the same.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, function: Callable[..., Outputs]) -> None:
        self.function = function
        self.warm_up = WARM_UP
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Sequence[Tensor]) -> Outputs:
        """The function's outputs for inputs of the same shapes in each call; the next call overwrites them.

        Args:
            inputs: on the GPU, or in pinned memory of the host.
        """
        if self.warm_up > 0:
            self.warm_up -= 1
            inputs = [tensor.to("cuda", non_blocking=True) for tensor in inputs]
            with nullcontext() if self.warm_up else _no_waiting():
                return self._on_another_stream(inputs)
        if self.graph is None:
            self._capture(inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        self.graph.replay()  # type: ignore[union-attr]
        return self.outputs

    def _on_another_stream(self, inputs: Sequence[Tensor]) -> Outputs:
        """As torch asks of calls before a capture."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                return self.function(*inputs)
        finally:
            current.wait_stream(self.stream)

    def _capture(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [torch.empty_like(tensor, device="cuda") for tensor in inputs]
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        gc.collect()  # a graph that is collected during the capture would break it
        try:
            # Threads that read data ahead may go on meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.outputs = self.function(*self.inputs)
        except RuntimeError as error:  # after which the generator is of no more use
            torch.cuda.set_stream(current)  # which torch before 2.12 leaves at the capture's
            # The first error is what went wrong; ending the capture then fails too, and says only that.
            cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            raise InputError(
                f"this program cannot be captured as a CUDA graph ({first_line(cause)}): use --hardware.engine eager"
            ) from cause
        self.graph = graph


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Inside, what waits for the GPU is a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
