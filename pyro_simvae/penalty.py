"""What an objective subtracts from the ELBO and that is no density: a site that says so."""

from typing import Any

import pyro
from pyro import distributions as dist
from torch import Tensor

PENALTY = "penalty"
"""The entry of a site's `infer` that marks a penalty."""


def penalty(name: str, value: Tensor) -> None:
    """Subtracts `value` from the objective of a guide that calls it: a `pyro.factor` under which the ELBO stays itself.

    `Trace_ELBO` subtracts it like the guide's densities; the ledger of `LedgerELBO` keeps it apart from them.

    Args:
        name: of the site.
        value: in nats, `()`: of all groups together.
    """
    unit = dist.Unit(value, has_rsample=True)
    infer: Any = {"is_auxiliary": True, PENALTY: True}
    pyro.sample(name, unit, obs=unit.sample(), infer=infer)
