"""A whole step on a GPU as one CUDA graph: the host launches it once, whatever the number of its operations."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Outputs = TypeVar("Outputs")


class CUDAGraph(Generic[Outputs]):
    """A function of tensors on a GPU that is run a few times as it is, then captured, then replayed.

    All that it reads besides its inputs must stay in the same memory from call to call, and it may not wait for the
    GPU.

    Args:
        function: from tensors to tensors in any container; may write into tensors of its own, such as weights.
        warm_up: calls before the capture, in which libraries and optimizers make what they keep.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, function: Callable[..., Outputs], warm_up: int = 3) -> None:
        self.function = function
        self.warm_up = warm_up
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Sequence[Tensor]) -> Outputs:
        """The function's outputs for inputs of the same shapes in each call; the next call overwrites them.

        Args:
            inputs: on the GPU, or in pinned memory of the host.
        """
        if self.warm_up > 0:
            self.warm_up -= 1
            return self._on_another_stream(inputs)
        if self.graph is None:
            self._capture(inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        self.graph.replay()  # type: ignore[union-attr]
        return self.outputs

    def _on_another_stream(self, inputs: Sequence[Tensor]) -> Outputs:
        """As torch asks of calls before a capture."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs = self.function(*(tensor.to("cuda", non_blocking=True) for tensor in inputs))
        current.wait_stream(stream)
        return outputs

    def _capture(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [torch.empty_like(tensor, device="cuda") for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self.function(*self.inputs)
