"""Factors for the latent sites that a story has besides z and content, made from the story itself."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import biject_to, constraints
from torch.nn import functional as F

from pyro_simvae.errors import InputError
from pyro_simvae.networks import Encoder
from pyro_simvae.sites import latent_sites

DRAWS = 400
"""Of a site's prior, for where its factor starts."""


def extra_latents(model: nn.Module, encoder: nn.Module) -> "ExtraLatents | None":
    """A factor for each latent site besides "z" and "content"; None where there is none to give.

    Sites that are summed out (`infer={"enumerate": "parallel"}`) or set to a point (`Delta`) need none.

    Args:
        model: the story, asked twice for its sites.
        encoder: gives the features.

    Raises:
        InputError: a site that is discrete, whose support varies or has no map from real numbers, or that lies in other
            plates than "groups" and "views"; an encoder a modality.
    """
    one, two = latent_sites(model, num_groups=1), latent_sites(model, num_groups=2)
    names = [name for name, site in two.items() if name not in ("content", "z") and _needs_factor(site)]
    if not names:
        return None
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"the story's latent site {names[0]!r} has a factor by itself for one encoder of all views, and here is "
            f"{type(encoder).__name__}: write a guide that samples it"
        )
    return ExtraLatents([Factor(name, one[name], two[name], encoder.num_features) for name in names])


class ExtraLatents(nn.Module):
    """q(u | x) = Π_sites q(u_site | x), each site in the story's own plates.

    Args:
        factors: one a site.
    """

    def __init__(self, factors: list["Factor"]) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)

    def forward(self, features: Tensor, groups: pyro.plate, views: pyro.plate) -> None:
        """Samples the sites.

        Args:
            features: of the views, `(N, J, F)`.
            groups, views: the guide's plates.
        """
        plates = {"groups": groups, "views": views}
        for factor in self._factors():
            with ExitStack() as contexts:
                contexts.enter_context(poutine.scale(scale=factor.weight(len(features))))
                for name in factor.plates:
                    contexts.enter_context(plates[name])
                pyro.sample(factor.name, factor(features))

    def centers(self, features: Tensor) -> dict[str, Tensor]:
        """Where the middle of each factor lies, by the site's name, for features `(N, J, F)`."""
        return {factor.name: factor.center(features) for factor in self._factors()}

    def _factors(self) -> "Iterator[Factor]":
        for factor in self.factors:
            assert isinstance(factor, Factor)
            yield factor


class Factor(nn.Module):
    """q(u | x): a Normal over real numbers, mapped to the support of the site u.

        u = biject_to(support)(v),   v ~ Normal(m + b loc, (b scale)²)

    with loc and scale from a linear layer on the features of the view; on their mean over the views for a site of the
    group; free parameters for a site of all groups. m and b are median and half the central 68% of the prior's
    draws of v, so that the factor starts near the prior. Where the story weighs the site by `poutine.scale`, as one of
    all groups must be for a batch to count it once a data set, so does the guide; the weight may grow with N.

    Args:
        name: of the site.
        one, two: the site in the story's trace for one group and for two.
        num_features: F.

    Raises:
        InputError: a site that is discrete, whose support varies or has no map from real numbers, or that lies in other
            plates than "groups" and "views".
    """

    def __init__(self, name: str, one: Any, two: Any, num_features: int) -> None:
        super().__init__()
        fn = two["fn"]
        self.name = name
        self.plates = _plates(name, two)
        self.transform = _from_real(name, fn)
        self.is_real = _is_real(fn.support)
        self.shape = torch.Size(self.transform.inverse_shape(fn.event_shape))
        self.median: Tensor
        self.spread: Tensor
        low, median, high = _quantiles(self.transform, two)
        self.register_buffer("median", median)
        self.register_buffer("spread", (high - low) / 2)
        # The weights of one and of two groups tell those of N, if they are constant or grow with N.
        self.slope = float(two["scale"]) - float(one["scale"])
        self.offset = float(one["scale"]) - self.slope
        outputs = 2 * self.shape.numel()
        self.head = nn.Linear(num_features, outputs) if self.plates else None
        self.free = None if self.plates else nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        """features: of the views, `(N, J, F)`. Returns batch shape `(N, J)`, `(N, 1)` or `()`."""
        loc, scale = self._loc_and_scale(features)
        base = dist.Normal(loc, scale, validate_args=False).to_event(len(self.shape))
        if self.is_real:
            return base
        # The cache spares the inverse of a draw, which loses digits near the ends of the support.
        return dist.TransformedDistribution(base, [self.transform.with_cache(1)], validate_args=False)

    def center(self, features: Tensor) -> Tensor:
        """Where the middle of the Normal is mapped to, for features `(N, J, F)`."""
        center: Tensor = self.transform(self._loc_and_scale(features)[0])
        return center

    def weight(self, num_groups: int) -> float:
        """The weight of the site in a batch of N groups."""
        return self.offset + self.slope * num_groups

    def _loc_and_scale(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.head is None:
            output: Any = self.free
        else:
            features = features if "views" in self.plates else features.mean(-2, keepdim=True)
            output = self.head(features).to(features.dtype)
        loc, raw_scale = (part.reshape((*output.shape[:-1], *self.shape)) for part in output.chunk(2, -1))
        return self.median + self.spread * loc, self.spread * (F.softplus(raw_scale) + 1e-5)


def _needs_factor(site: Any) -> bool:
    return not site["infer"].get("enumerate") and not isinstance(_inner(site["fn"]), dist.Delta)


def _inner(fn: Any) -> Any:
    while isinstance(fn, (torch.distributions.Independent, dist.MaskedDistribution)):
        fn = fn.base_dist
    return fn


def _plates(name: str, site: Any) -> tuple[str, ...]:
    plates = tuple(sorted(frame.name for frame in site["cond_indep_stack"]))
    if plates not in ((), ("groups",), ("groups", "views")) or len(site["fn"].batch_shape) != 2 * bool(plates):
        raise InputError(
            f"the story's latent site {name!r} has batch shape {tuple(site['fn'].batch_shape)} in the plates "
            f'{", ".join(plates) or "none"}: write it outside of all plates, in "groups", or in both "groups" and '
            '"views", with .to_event for what belongs to one draw, or write a guide'
        )
    return plates


def _from_real(name: str, fn: Any) -> Any:
    """The map from real numbers to a site's support."""
    if fn.support.is_discrete:
        raise InputError(
            f"the story's latent site {name!r} is discrete, and no factor of it is reparametrized: mark it "
            'infer={"enumerate": "parallel"}, which sums it out, or write a guide'
        )
    try:
        return biject_to(_fixed(name, fn.support))
    except NotImplementedError as error:
        raise InputError(
            f"the support of the story's latent site {name!r}, of a {type(_inner(fn)).__name__}, has no map from real "
            "numbers: write a guide that samples it"
        ) from error


def _fixed(name: str, support: Any) -> Any:
    """The support with its bounds as numbers: those of a trace have the trace's batch shape."""
    support = copy.copy(support)
    for key, value in vars(support).items():
        if isinstance(value, constraints.Constraint):
            setattr(support, key, _fixed(name, value))
        elif isinstance(value, Tensor):
            if value.min() != value.max():
                raise InputError(
                    f"the support of the story's latent site {name!r} is not the same everywhere, from {value.min():g} "
                    f"to {value.max():g} at one end: scale a site of one support in the story, or write a guide"
                )
            setattr(support, key, value.flatten()[0].item())
    return support


def _quantiles(transform: Any, site: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The 16%, 50% and 84% quantiles of a site's prior, over its whole batch and in real numbers."""
    fn, device = site["fn"], site["value"].device
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"), torch.no_grad():
        draws = transform.inv(fn.sample((DRAWS,))).flatten(0, len(fn.batch_shape)).sort(0).values
    low, median, high = (draws[int(share * len(draws))].clone() for share in (0.16, 0.5, 0.84))
    return low, median, high


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real
