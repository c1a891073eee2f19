"""The methods that a comparison knows by name, each as the options of `fit` that make it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyro_simvae.components import KNOWN, normalize
from pyro_simvae.errors import InputError
from pyro_simvae.limits import LIMITS

LABELLED = ("softmax", "supcon")
"""Limits that see the labels: no peers of methods that do not."""

TITLES = {"barlow_twins": "Barlow Twins", "wmse": "W-MSE"}
"""Limits that the literature does not write as their classes are called."""

UNTRAINED, RAW = "untrained", "raw"

PROJECTED = {"guide": {"class_path": "mean_field", "init_args": {"projection": [256]}}}
"""A projection head with batch norm, without which SimSiam and BYOL collapse."""


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Args:
        title: what tables call it.
        options: of `pyro_simvae.commands.fit`, beside those that all methods share.
        fitted: False for raw input, which is scored as it is.
    """

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    fitted: bool = True

    @property
    def sees_labels(self) -> bool:
        """Whether its objective uses the labels of the training groups."""
        limit = self.options.get("limit")
        return limit is not None and normalize("limit", limit)["class_path"] in LABELLED


METHODS: dict[str, Method] = {
    "simvae": Method("SimVAE", {"model": "simvae"}),
    "vae": Method("VAE", {"model": "vae"}),
    "beta_vae": Method("β-VAE", {"model": "vae", "training": {"kl_weight": 4.0}}),
    "cr_vae": Method("CR-VAE", {"model": "vae", "guide": "consistent"}),
    "iwae": Method("IWAE", {"model": "vae", "training": {"num_particles": 5}}),
    **{name: Method(TITLES.get(name, limit.__name__), {"limit": name}) for name, limit in LIMITS.items()},
    "byol": Method("BYOL", {"limit": "byol", **PROJECTED}),
    "simsiam": Method("SimSiam", {"limit": "simsiam", **PROJECTED}),
    "supervised": Method("Supervised", {"limit": "softmax"}),
    UNTRAINED: Method("Untrained", {"training": {"epochs": 0}}),
    RAW: Method("Raw input", fitted=False),
}
"""VAEs take the views of a group as independent samples. `supervised` is the ceiling; `untrained` and `raw`, the floor.

Sources: β-VAE, Higgins et al. 2017; CR-VAE, Sinha and Dieng 2021 (arXiv:2105.14859); IWAE, Burda, Grosse and
Salakhutdinov 2016 (arXiv:1509.00519); the limits have their own.
"""


def merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `fit` with others laid over them.

    Settings are merged one by one. Of a component, the arguments are merged where both name the same class or the
    second names none; another class takes the place of the first with all its arguments.

    Raises:
        InputError: a component that names no class.
    """
    result = dict(base)
    for key, value in override.items():
        below = result.get(key)
        if key in KNOWN and value is not None:
            result[key] = _merged_spec(key, below, value)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = {**below, **value}
        else:
            result[key] = value
    return result


def _merged_spec(kind: str, below: Any, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and "class_path" not in value:
        if below is None:
            raise InputError(f"the {kind} {dict(value)} names no class: give it a class_path, such as simclr")
        value = {"class_path": normalize(kind, below)["class_path"], **value}
    spec = normalize(kind, value)
    if below is not None and (lower := normalize(kind, below))["class_path"] == spec["class_path"]:
        spec["init_args"] = {**lower["init_args"], **spec["init_args"]}
    return spec
