"""Batches on their way from host memory to the device."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def to_device(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Each batch on `device`. On CUDA the next one is copied while the present one is computed with.

    Args:
        batches: In pinned memory where the device is CUDA, or the copies are not asynchronous.
        device: Where they go.
    """
    if device.type != "cuda":
        for images in batches:
            yield images.to(device)
        return
    copies, ready = torch.cuda.Stream(device), None
    for images in batches:
        if ready is not None:
            _hand_over(ready, copies)
        with torch.cuda.stream(copies):
            coming = images.to(device, non_blocking=True)
        if ready is not None:
            yield ready
        ready = coming
    if ready is not None:
        _hand_over(ready, copies)
        yield ready


def _hand_over(images: Tensor, copies: torch.cuda.Stream) -> None:
    """Lets computation wait for the copies begun so far, and keeps the memory until it has used them."""
    computation = torch.cuda.current_stream(images.device)
    computation.wait_stream(copies)
    images.record_stream(computation)
