"""Self-supervised learning as one hierarchical latent-variable model, written as an explicit Pyro program."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_simvae.commands import check, compare, encode, evaluate, explore, fit, graph, inspect, new, sample
    from pyro_simvae.fitted import open_run
    from pyro_simvae.inference.settings import Hardware, Training

_WHERE = {
    "commands": ("check", "compare", "encode", "evaluate", "explore", "fit", "graph", "inspect", "new", "sample"),
    "fitted": ("open_run",),
    "inference.settings": ("Hardware", "Training"),
}

__all__ = [
    "Hardware",
    "Training",
    "check",
    "compare",
    "encode",
    "evaluate",
    "explore",
    "fit",
    "graph",
    "inspect",
    "new",
    "open_run",
    "sample",
]


def __getattr__(name: str) -> Any:
    # The commands import torch and Lightning; `import pyro_simvae.models` should not pay for all of it.
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
