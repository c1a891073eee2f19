"""Running Pyro modules without the global parameter store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.modalities import Modalities


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


def call(program: nn.Module, x: Tensor | Modalities, announce: bool, **observed: Tensor) -> Any:
    """Calls a prepared program under `module_local_params`.

    A PyroModule sends a message for each parameter of a network, through all plates, every time the network is read,
    and swaps the global store around each call. With local parameters this only serves handlers that wait for
    parameters, of which there are none here, and parameters that are sampled.

    Args:
        announce: whether to send these messages: where `samples_parameters`. Pyro's checks turn it on too.
    """
    if announce or pyro.settings.get("validate_poutine"):
        return program(x, **observed)
    return nn.Module.__call__(program, x, **observed)


def samples_parameters(program: nn.Module) -> bool:
    """Whether a program has parameters that are sites of their own (`PyroSample`)."""
    return any(isinstance(part, PyroModule) and part._pyro_samples for part in program.modules())
