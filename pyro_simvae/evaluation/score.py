"""Scoring a fitted guide: probes on its latent, beside raw input and the untrained guide."""

import math
from typing import Any

import numpy as np
from pyro import poutine
from rich.console import Console
from torch import Tensor, nn

from pyro_simvae.data import Splits, Views
from pyro_simvae.evaluation.probes import Features, Labels, Prepared, Targets, classify, probe_factors
from pyro_simvae.evaluation.representations import raw, represent
from pyro_simvae.local_params import local_params

PERIODS = {"hue": 1.0, "rotation": 2 * math.pi}
"""The factors that go round, with the length of a round."""


class LatentLoc(nn.Module):
    """The loc of q(z | x) for single views, from any guide.

    Args:
        guide: its `latent(x)` is asked where it has one; otherwise its site "z" is traced.
    """

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, *event)`. Returns `(n, D)`."""
        groups = x.unsqueeze(1)
        with local_params(self.guide):
            ask: Any = getattr(self.guide, "latent", None)
            if ask is None:
                latent: Any = poutine.trace(self.guide).get_trace(groups).nodes["z"]["fn"]
            else:
                latent = ask(groups)
        return latent.mean.squeeze(1)


class BeforeProjection(nn.Module):
    """What the projection head of a guide reads, for single views.

    Args:
        guide: one with `has_projection`.
    """

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, *event)`. Returns `(n, F)`."""
        guide: Any = self.guide
        return guide.before_projection(x.unsqueeze(1)).squeeze(1)


def score(
    splits: Splits, views: Views, guide: nn.Module, untrained: nn.Module, seed: int, console: Console
) -> dict[str, Any]:
    """Probe scores of the latent loc ("z"), of raw input and of the untrained guide's loc, all without augmentation.

    Where the guide has a projection head, what it reads ("features") is scored too. Known factors are probed on all
    but raw input.

    Args:
        splits: the data; all on one device with the guides. Without labels and factors the result is empty.
        views: its plain form makes what is represented.
        guide, untrained: the fitted guide, and one with its initial weights.
        seed: of the probes.
        console: gets a line for each representation before it is probed.

    Returns:
        {"z": {"knn", "linear", "mlp", "factors": {factor: {"linear", "knn"}}}, "raw": ..., "untrained": ...}.
        "factors" only where the data has them.

    Raises:
        InputError: labels or factors that cannot be probed.
    """
    labels = None
    if all(split.labels is not None for split in splits):
        labels = Labels(*(_array(split.labels) for split in splits))
    factors = {
        name: (Labels if _is_categorical(column) else Targets)(*(_array(split.factors[name]) for split in splits))
        for name, column in splits.train.factors.items()
    }
    if labels is None and not factors:
        console.print("no labels and no known factors: nothing to probe, the ELBO only", highlight=False)
        return {}
    makers = {
        "z": lambda split: represent(LatentLoc(guide), split, views.plain),
        "raw": lambda split: raw(split, views.plain),
        "untrained": lambda split: represent(LatentLoc(untrained), split, views.plain),
    }
    if getattr(guide, "has_projection", False):
        makers["features"] = lambda split: represent(BeforeProjection(guide), split, views.plain)
    scores: dict[str, Any] = {}
    for name, make in makers.items():
        console.print(f"probing {name} ...", highlight=False)
        features = Prepared(Features(*(make(split) for split in splits)))
        scores[name] = {} if labels is None else classify(features, labels, seed)
        if factors and name != "raw":  # regressions on thousands of pixels would take longer than all else
            scores[name]["factors"] = probe_factors(features, factors, PERIODS)
    return scores


def _array(values: Tensor | None) -> np.ndarray:
    assert values is not None
    return values.numpy()


def _is_categorical(column: Tensor) -> bool:
    return not column.is_floating_point()
