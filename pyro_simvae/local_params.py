"""Running Pyro modules without the global parameter store."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
from pyro.nn import PyroModule
from torch import nn


@contextmanager
def local_params(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules' parameters are their own: Pyro's global store is neither read nor written.

    Pyro prepares a module for this only if `module_local_params` was set when the module was made. Users make
    stories under either setting, so what is missing is added here.
    """
    prepare(*modules)
    # A local scope takes Pyro's weak references off the parameters outside, which SVI reads after its step.
    references = [
        (p, p.unconstrained) for _, p in pyro.get_param_store().named_parameters() if hasattr(p, "unconstrained")
    ]
    with pyro.settings.context(module_local_params=True):
        yield
    for parameter, reference in references:
        parameter.unconstrained = reference


def prepare(*modules: nn.Module) -> None:
    """Makes modules fit to run under `module_local_params`, once and for all."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, PyroModule) and not hasattr(part._pyro_context, "param_state"):
                part._pyro_context.param_state = {"params": {}, "constraints": {}}
