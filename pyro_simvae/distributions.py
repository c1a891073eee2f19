"""What the stories need and Pyro does not have: a quick Gaussian, flat content, and a lazily decoded view."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import constraints

from pyro_simvae.errors import InputError

LOG_2PI = math.log(2 * math.pi)

Size = torch.Size | list[int] | tuple[int, ...]


class Gaussian(dist.Independent):
    """Independent Normals over R^D: `Normal(loc, scale).to_event(1)`, for half the work in `log_prob` and `expand`.

    Args:
        loc: `(*batch, D)`.
        scale: > 0, a number or what broadcasts to `loc`.
    """

    def __init__(self, loc: Tensor, scale: Tensor | float) -> None:
        if not isinstance(scale, Tensor):  # made where loc is: a copy from the host would wait for the device
            scale = torch.full((), float(scale), dtype=loc.dtype, device=loc.device)
        super().__init__(dist.Normal(loc, scale, validate_args=False), 1)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Gaussian":
        # Every plate around a site asks for this, mostly for the shape that it already has.
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        shape = torch.Size(batch_shape) + self.event_shape
        return Gaussian(self.base_dist.loc.expand(shape), self.base_dist.scale.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        deviation = (value - self.base_dist.loc) / self.base_dist.scale
        nats = torch.addcmul(self.base_dist.scale.log(), deviation, deviation, value=0.5)
        return -self.event_shape[0] * LOG_2PI / 2 - nats.sum(-1)


class Flat(dist.TorchDistribution):
    """The improper density p(c) = 1 over R^D: log-density zero everywhere, nothing to sample.

    Unlike `pyro.distributions.ImproperUniform` its zeros have the dtype and device of the value, and drawing
    from it says what to do.

    Args:
        dim: D.
        batch_shape: (N, 1).
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real_vector

    def __init__(self, dim: int, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        super().__init__(batch_shape, torch.Size([dim]), validate_args=False)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Flat":
        return Flat(self.event_shape[0], torch.Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(()).expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        raise InputError(
            "content is flat (content_scale is infinite), an improper prior with nothing to sample: "
            "give a finite content_scale to draw from the prior"
        )


class Decoded(dist.TorchDistribution):
    """p(x | z) whose parameters are decoded when first needed, and never if nobody asks.

    A program can so state its likelihood without paying for the decoder: a handler that replaces the
    site, or a user who wants latents only, leaves `decode` uncalled.

    Args:
        decode: returns the distribution over one view, batch shape `batch_shape`, event shape `event_shape`.
        batch_shape: (N, J).
        event_shape: (C, H, W) or (P,).
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real

    def __init__(
        self,
        decode: Callable[[], Any],
        batch_shape: torch.Size,
        event_shape: torch.Size,
    ) -> None:
        self._decode = decode
        self._distribution: Any = None
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def distribution(self) -> Any:
        """The decoded distribution; the first access runs the decoder."""
        if self._distribution is None:
            self._distribution = self._decode()
        return self._distribution

    def log_prob(self, value: Tensor) -> Tensor:
        return self.distribution.log_prob(value)

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        return self.distribution.sample(sample_shape)

    @property
    def mean(self) -> Tensor:
        return self.distribution.mean

    @property
    def variance(self) -> Tensor:
        return self.distribution.variance

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Decoded":
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return Decoded(lambda: self.distribution.expand(batch_shape), batch_shape, self.event_shape)
