"""The memory that tensors on a CPU free: whether the C library keeps it for the next ones or gives it back."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of malloc.h."""


def keep_freed() -> None:
    """Has GNU's C library keep freed memory in this process; elsewhere nothing happens.

    Else each tensor of more than 32 MiB is new memory every time, whose pages the system brings in one by one: a sixth
    of ResNet-18's step.

    Source: https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
    """
    if mallopt := _of_c("mallopt"):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Gives the freed memory that was kept back to the system."""
    if trim := _of_c("malloc_trim"):
        trim(0)


def _of_c(name: str) -> Callable[..., Any] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
