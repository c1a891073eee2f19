"""The two effect handlers that take a program to its limit: one on the guide, one on the model.

At t = 0 both leave every value and density as it is. At t = 1 the guide is a point, and the decoder is not run.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from pyro import distributions as dist
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.precision import in_full
from pyro_simvae.sites import is_view

if TYPE_CHECKING:
    from pyro_simvae.limits.limit import Limit


class PointPosterior(Messenger):
    """On a guide: draws z towards its geometry's point, z = (1 - t) z₀ + t unit geometry(loc), z₀ ~ q(z | x).

    The density becomes (1 - t) log q(z₀ | x), that of the full-scale guide, so nothing diverges as z narrows.

    Args:
        limit: gives t and the content's treatment.
        unit: length of the geometry's unit in the story's latent space.
        geometry: from `(N, J, D)` to `(N, J, D)`.
    """

    def __init__(self, limit: "Limit", unit: float | Tensor, geometry: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.limit = limit
        self.unit = unit
        self.geometry = geometry

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "z":
            mean = msg["fn"].mean
            with in_full(mean):
                point = self.unit * self.geometry(mean)
            msg["fn"] = dist.Delta(point, event_dim=1) if self.limit.t == 1 else _Drawn(msg["fn"], point, self.limit.t)
        elif msg["name"] == "content":
            msg["fn"] = Scored(msg["fn"], self.limit.share_of_joint)


class EntropyForLikelihood(Messenger):
    """On a model: an entropy estimate in place of the likelihood, and the limit's treatment of content.

        at "content"   (1 - w) log p(c)
        at "z"         (1 - w) log p(z | c) + w agreement(z)      w = 0 for joint content, else t
        at "x"         (1 - t) log p(x | z) + t Ĥ[z]

    Where modalities have sites of their own, "x_NAME", the first of them carries the entropy of all.

    Args:
        limit: gives the terms and t.
        latents: the densities of the story's latents.
        given: what else the limit knows of the batch.
    """

    def __init__(self, limit: "Limit", latents: Latents, given: Given) -> None:
        super().__init__()
        self.limit = limit
        self.latents = latents
        self.given = given
        self.sites: dict[str, Scored] = {}
        self.z: Tensor | None = None

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in ("content", "z"):
            msg["fn"] = self.sites[msg["name"]] = Scored(msg["fn"], self.limit.share_of_joint)
        elif is_view(msg["name"]):
            msg["fn"] = Scored(msg["fn"], 1 - self.limit.t)
            self.sites.setdefault("x", msg["fn"])  # with several kinds of views, the first carries the entropy

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] == "z":
            self.z = msg["value"]

    def score(self) -> None:
        """Sets the terms, once the program has run: they may run it again, which must not happen inside its plates."""
        assert self.z is not None
        with in_full(self.z):
            self._score(self.z / self.latents.unit)

    def _score(self, z: Tensor) -> None:
        limit, latents, given = self.limit, self.latents, self.given
        agreement, entropy = limit.agreement(z, latents, given), limit.entropy(z, latents, given)
        self.sites["x"].extra = (limit.t * _total(entropy, z)).sum_to_size(self.sites["x"].batch_shape)
        self.sites["x"].loss_terms = limit.normalized({k: v.detach() for k, v in (agreement | entropy).items()}, z)
        if limit.content == "joint":
            # The program's own sites score the story's latents; the entropy is that of the representations.
            self.sites["z"].extra = (limit.t * latents.jacobian(z) / z.shape[1]).expand(z.shape[:2])
        else:
            self.sites["z"].extra = limit.t * _total(agreement, z)
        if limit.training and torch.is_grad_enabled():
            with torch.no_grad():
                limit.update(z.detach(), given)


def _total(terms: dict[str, Tensor], z: Tensor) -> Tensor:
    """The sum of the terms of z `(N, J, D)`: `(N, J)`."""
    return sum(terms.values(), start=z.new_zeros(())).expand(z.shape[:2])


class Scored(dist.TorchDistribution):
    """A distribution whose log-density is weighted, with an extra: weight log p(value) + extra.

    At weight 0 the density is not evaluated, so that a decoder behind it is not run.

    Args:
        base: the distribution; it is what draws.
        weight: in [0, 1].
        extra: `batch_shape`; may be set after the draw.

    Attributes:
        loss_terms: what the extra stands for in the loss of the literature, `()` each.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real

    def __init__(self, base: Any, weight: float, extra: Tensor | None = None) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base = base
        self.weight = weight
        self.extra = extra
        self.loss_terms: Mapping[str, Tensor] = {}

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.base.variance

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base.has_rsample

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        return self.base.rsample(sample_shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        return self.base.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.weight == 0:
            return value.new_zeros(self.batch_shape) if self.extra is None else self.extra
        log_prob = self.weight * self.base.log_prob(value)
        return log_prob if self.extra is None else log_prob + self.extra

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Scored":
        return Scored(self.base.expand(batch_shape), self.weight, self.extra)


class _Drawn(dist.TorchDistribution):
    """z = (1 - t) z₀ + t point, z₀ ~ base, with the density (1 - t) log base(z₀)."""

    arg_constraints = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real_vector

    def __init__(self, base: Any, point: Tensor, t: float) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base = base
        self.point = point
        self.t = t

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base.has_rsample

    @property
    def mean(self) -> Tensor:
        return (1 - self.t) * self.base.mean + self.t * self.point

    @property
    def variance(self) -> Tensor:
        return (1 - self.t) ** 2 * self.base.variance

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        return (1 - self.t) * self.base.rsample(sample_shape) + self.t * self.point

    def log_prob(self, value: Tensor) -> Tensor:
        return (1 - self.t) * self.base.log_prob((value - self.t * self.point) / (1 - self.t))

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_Drawn":
        return _Drawn(self.base.expand(batch_shape), self.point, self.t)
