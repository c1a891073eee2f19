"""The pair of a limit without the limit's weights: the draws of 0 < t < 1, scored by their true density."""

import math
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.limits.handlers import Scored
from pyro_simvae.sites import observed_arguments


def own_densities(pair: LedgerELBO) -> LedgerELBO:
    """The story, and its guide with the density that it draws from: under a limit, t < 1, the pair has others."""
    limit = getattr(pair.model, "limit", None)
    if limit is None:
        return pair
    story: Any = pair.model.story
    return LedgerELBO(story, _OwnDensities(pair.guide, limit.t))


class _OwnDensities(nn.Module):
    """A limit's guide that draws as before."""

    def __init__(self, guide: nn.Module, t: float) -> None:
        super().__init__()
        self.guide = guide
        self.t = t

    @property
    def observes(self) -> set[str]:
        return observed_arguments(self.guide)

    def forward(self, x: Tensor, **observed: Tensor) -> Any:
        with _Unweighted(self.t):
            return self.guide(x, **observed)


class _Unweighted(Messenger):
    """Undoes what `PointPosterior` does to densities, not what it does to draws."""

    def __init__(self, t: float) -> None:
        super().__init__()
        self.t = t

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["name"] == "z":
            # z = (1 - t) z₀ + t point is scored by (1 - t) log q(z₀); its density is log q(z₀) - D log(1 - t).
            volume = torch.tensor(-fn.event_shape.numel() * math.log1p(-self.t))
            msg["fn"] = Scored(fn, 1 / (1 - self.t), volume)
        elif isinstance(fn, Scored):
            msg["fn"] = fn.base
