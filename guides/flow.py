"""The flow guide: the encoder's Normal for every view's latent, bent by a normalizing flow."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_simvae.checks import count
from pyro_simvae.distributions import LOG_2PI, Size
from pyro_simvae.errors import InputError
from pyro_simvae.guides.content import Content, content_guide
from pyro_simvae.guides.extra import extra_latents
from pyro_simvae.guides.program import check_not_directions, check_one_encoder, encode, sample_latents
from pyro_simvae.networks import Encoder

NUM_POINTS = 32
"""Fixed points of the base, by which a bent Normal has its mean and variance."""


class Flow(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ), with q(z_ij | x_ij) of any shape.

        latent    z_ij = loc + scale f(ε; h),  ε ~ Normal(0, I)     loc, scale, h of x_ij     (N, J, D)
        content   c_i  ~ content(z_i)                               (N, 1, C), if the story has this site

    Loc, scale and the features h are the encoder's; f is a stack of coupling layers, in each of which half of the
    dimensions set rational-quadratic splines on [-5, 5] for the others. f is the identity at the start, which makes it
    `MeanField`. Draws and their densities take one pass, densities of other values three.

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`.
        transforms: how many coupling layers, >= 1.
        hidden: widths of the hidden layers of their networks.
        content: as in `MeanField`.

    Raises:
        InputError: what `MeanField` refuses; an encoder a modality; a number or a width that is not positive.

    Source: Rezende and Mohamed 2015 (arXiv:1505.05770); Durkan, Bekasov, Murray and Papamakarios 2019, *Neural spline
        flows* (arXiv:1906.04032).
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        content: Content = "auto",
    ) -> None:
        super().__init__()
        check_not_directions(model)
        check_one_encoder("flow", encoder)
        count("transforms", transforms)
        if not hidden or min(hidden) < 1:
            raise InputError(f"hidden widths of the flow are {list(hidden)}: give one or more positive numbers")
        self.encoder = encoder
        self.content = content_guide(model, encoder.latent_dim, content)
        self.extra = extra_latents(model, encoder)
        self.bend = _splines(encoder.latent_dim, encoder.num_features, transforms, hidden)
        self.points: Tensor
        self.register_buffer("points", _normal_points(encoder.latent_dim), persistent=False)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`: batch shape `(N, J)`, event shape `(D,)`."""
        return self._latent(*encode(self.encoder, x))

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        encoded = encode(self.encoder, x)
        sample_latents(x, self._latent(*encoded), self.content, self.extra, encoded[0])

    def _latent(self, features: Tensor, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        # Splines need all the digits: under autocast their networks run in the precision of the features.
        with torch.autocast(loc.device.type, enabled=False):
            return BentNormal(loc, scale, self.bend(features), self.points)


class BentNormal(dist.TorchDistribution):
    """The distribution of loc + scale f(ε), ε ~ Normal(0, I), for an invertible f.

    Mean and variance are taken over fixed points ε, quasi-random and of mean 0 and variance 1: the same whenever they
    are asked for, exact where f is the identity, an approximation elsewhere.

    Args:
        loc, scale: `(*batch, D)`, scale > 0.
        f: zuko's transform, from and to `(*batch, D)`.
        points: `(S, D)`.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, f: Any, points: Tensor) -> None:
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.loc = loc
        self.scale = scale
        self.f = f
        self.points = points
        self._drawn: tuple[Tensor, Tensor] | None = None

    def expand(self, batch_shape: Size, _instance: Any = None) -> "BentNormal":
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        shape = torch.Size(batch_shape) + self.event_shape
        return BentNormal(self.loc.expand(shape), self.scale.expand(shape), self.f, self.points)

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008 (torch's own signature)
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        bent, log_jacobian = self._bend(noise)
        value = self.loc + self.scale * bent
        self._drawn = value, self._score(noise, log_jacobian)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        if self._drawn is not None and value is self._drawn[0]:
            log_prob = self._drawn[1]
            if log_prob.requires_grad or not torch.is_grad_enabled():
                return log_prob
        with torch.autocast(self.loc.device.type, enabled=False):
            noise = self.f.inv((value - self.loc) / self.scale)
        return self._score(noise, self._bend(noise)[1])

    @property
    def mean(self) -> Tensor:
        return self._moments[0]

    @property
    def variance(self) -> Tensor:
        return self._moments[1]

    def _bend(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """f and log |det ∂f/∂ε|."""
        with torch.autocast(self.loc.device.type, enabled=False):
            bent, log_jacobian = self.f.call_and_ladj(noise)
        return bent, log_jacobian

    def _score(self, noise: Tensor, log_jacobian: Tensor) -> Tensor:
        nats = noise.square() / 2 + self.scale.log() + LOG_2PI / 2
        return -nats.sum(-1) - log_jacobian

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        # One point at a time, since a batch of all views is large enough.
        bent = [self._bend(point.expand_as(self.loc))[0] for point in self.points]
        mean = sum(bent, start=torch.zeros_like(self.loc)) / len(bent)
        variance = sum(((each - mean).square() for each in bent), start=torch.zeros_like(self.loc)) / len(bent)
        return self.loc + self.scale * mean, self.scale.square() * variance


def _splines(features: int, context: int, transforms: int, hidden: Sequence[int]) -> nn.Module:
    """Coupling layers of splines that begin as the identity."""
    validation = torch.distributions.Distribution._validate_args
    import zuko  # type: ignore[import-untyped]

    # Its import turns torch's validation off for everything in the process.
    torch.distributions.Distribution.set_default_validate_args(validation)
    flow = zuko.flows.NSF(features, context, transforms=transforms, hidden_features=tuple(hidden), passes=2)
    for layer in flow.transform.transforms:
        for parameter in layer.hyper[-1].parameters():
            nn.init.zeros_(parameter)
    return flow.transform


def _normal_points(dim: int) -> Tensor:
    """Points of a standard Normal, in opposite pairs and of variance 1 in each dimension: `(S, D)`."""
    uniform = torch.quasirandom.SobolEngine(dim, scramble=True, seed=0).draw(NUM_POINTS // 2, dtype=torch.float64)
    half = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half]).float()
