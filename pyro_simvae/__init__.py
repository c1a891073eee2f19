"""Self-supervised learning as one hierarchical latent-variable model, written as an explicit Pyro program."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_simvae.commands import check, compare, evaluate, explore, fit, graph, inspect, new, sample

__all__ = ["check", "compare", "evaluate", "explore", "fit", "graph", "inspect", "new", "sample"]


def __getattr__(name: str) -> Any:
    # The commands import torch and Lightning; `import pyro_simvae.models` should not pay for all of it.
    if name in __all__:
        from pyro_simvae import commands

        return getattr(commands, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
