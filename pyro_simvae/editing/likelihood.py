"""Whether p(x | z) is a density of the data's views: in its support, normalized, and counted once."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.distributions import biject_to, constraints

from pyro_simvae.distributions import Decoded
from pyro_simvae.editing.report import Finding
from pyro_simvae.editing.runs import Message, Run, is_deterministic, mistake_and_mend
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import check_support
from pyro_simvae.sites import is_view

TOLERANCE = 0.02
"""By how much the log of an integral may differ from zero, in nats a pixel; the rule errs by less than 1e-3."""
STEP = 0.05
"""Of the rule, in the log of the distance from its origin."""
MOST_COUNTS = 1000
"""Of a support without end."""
MOST_PIXELS = 1024
"""Of a density that cannot be taken apart, for which every pixel needs evaluations of its own."""

Density = Callable[[Tensor], Tensor]
"""The log-density of every pixel, up to a constant, `(Q, *pixels)`, at values `(Q, *pixels)` or `(Q, 1, ...)`."""


def likelihood_faults(model: nn.Module, run: Run, x: Any) -> Iterator[Finding]:
    """What a run on views `x` shows of the sites that observe."""
    try:
        check_support(model, x)
    except InputError as error:
        yield Finding("support", "x", *mistake_and_mend(error))
    for name, site in run.sites.items():
        if not site["is_observed"] or is_deterministic(site):
            continue
        if isinstance(site["fn"], dist.Unit):
            message = "is a pyro.factor, which is no density: the objective is then no bound on the evidence"
            mend = "give it a distribution, as by pyro.sample" + (", of the view" if is_view(name) else "")
            yield Finding("not_normalized" if is_view(name) else "factor", name, message, mend, is_view(name))
        elif is_view(name):
            yield from _view_faults(name, site)


def _view_faults(name: str, site: Message) -> Iterator[Finding]:
    if not isinstance(site["scale"], int | float) or site["scale"] != 1:
        mend = "remove poutine.scale; fit's --training.likelihood_weight weighs the objective and leaves the ELBO true"
        yield Finding("weighted", name, "its density has a weight, so that it is no density any more", mend)
    try:
        mass = log_mass(site["fn"], site["value"])
    except ValueError:  # a density that refuses the values of the rule
        mass = None
    if mass is None:
        message = "was not checked for its normalization, since its pixels cannot be taken apart"
        yield Finding("not_checked", name, message, "check the density by hand", False)
    elif not abs(mass) < TOLERANCE:
        yield Finding(
            "not_normalized",
            name,
            f"its density integrates to exp({mass:.3g}) a pixel instead of 1",
            "add the normalizer that depends on the parameters, or use a distribution of pyro.distributions",
        )


def draws_faults(run: Run, seen: Run) -> Iterator[Finding]:
    """Whether views from the prior lie anywhere near the data."""
    for name, site in run.sites.items():
        if is_view(name) and name in seen.sites and not isinstance(site["fn"], dist.Unit):
            x, draws = seen.sites[name]["value"], site["value"]
            span = x.max() - x.min()
            share = ((draws < x.min() - span) | (draws > x.max() + span)).float().mean()
            if share > 0.5:
                yield Finding(
                    "prior_range",
                    name,
                    f"{share:.0%} of the pixels drawn from the prior lie far outside of the data's range",
                    "look at the scales of the prior and of the likelihood, or rescale the data",
                    False,
                )


# -- normalization ----------------------------------------------------------------------------------------------


@torch.no_grad()
def log_mass(fn: Any, x: Tensor) -> float | None:
    """The log of the integral (or sum) of a density over all views, in nats a pixel; 0 where it is normalized.

    Pixels that are independent are integrated each by itself. Of a density in one piece, pixel k alone is varied:
    ∫ p(x) dx_k / p(x) = m_k / p_k(x_k), so that log ∫ p = log p(x) + Σ_k log (m_k / p_k(x_k)).

    Args:
        fn: the distribution of views, lazily decoded or not.
        x: views to start from, `(N, J, *event)`.

    Returns: None where pixels depend on each other or are too many, and for Pyro's own densities of that sort 0.
    """
    fn = fn.distribution if isinstance(fn, Decoded) else fn
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        if type(fn).log_prob is not torch.distributions.Independent.log_prob and isinstance(fn, dist.Independent):
            break  # a density of its own, such as `Gaussian`
        fn = fn.base_dist
    if getattr(fn, "has_enumerate_support", False):
        values = fn.enumerate_support(expand=False)
        return fn.log_prob(values).logsumexp(0).mean().item()
    if not fn.event_shape:
        return log_integral(fn.log_prob, fn, x).mean().item()
    return _in_one_piece(fn, x)


def _in_one_piece(fn: Any, x: Tensor) -> float | None:
    x = x.expand(fn.batch_shape + fn.event_shape)
    if not _factorizes(fn, x):
        return 0.0 if type(fn).__module__.startswith(("torch.", "pyro.distributions")) else None
    num_pixels = fn.event_shape.numel()
    if num_pixels > MOST_PIXELS:
        return None
    here, pixel = fn.log_prob(x), torch.eye(num_pixels, dtype=torch.bool).reshape(num_pixels, *fn.event_shape)
    pixel = pixel.reshape(num_pixels, *[1] * len(fn.batch_shape), *fn.event_shape)

    def relative(values: Tensor) -> Tensor:
        """log p(x with pixel k at values) - log p(x), for every k: `(Q, *x.shape)`."""
        rows = []
        for value in values.expand(-1, *x.shape):
            each = fn.log_prob(torch.where(pixel, value, x)) - here  # (P, *batch)
            rows.append(each.movedim(0, -1).reshape(x.shape))
        return torch.stack(rows)

    total = here + log_integral(relative, fn, x).flatten(len(fn.batch_shape)).sum(-1)
    return (total / num_pixels).mean().item()


def _factorizes(fn: Any, x: Tensor) -> bool:
    """Whether log p is a sum over pixels: log p(a) + log p(b) stays when a and b exchange half of their pixels."""
    a, b = x, x.flatten(len(fn.batch_shape)).flip(-1).reshape(x.shape) * 0.5 + 0.25 * x
    swap = (torch.arange(fn.event_shape.numel()) % 2).bool().reshape(fn.event_shape)
    apart = fn.log_prob(a) + fn.log_prob(b)
    crossed = fn.log_prob(torch.where(swap, a, b)) + fn.log_prob(torch.where(swap, b, a))
    return torch.allclose(apart, crossed, rtol=1e-4, atol=1e-3 * fn.event_shape.numel() ** 0.5)


def log_integral(density: Density, fn: Any, x: Tensor) -> Tensor:
    """log ∫ exp(density(t)) dt of every pixel over the support of `fn`, `x.shape`.

    The support is mapped from the real line, where the largest value on a grid (or the mean, if it is larger) becomes
    the origin of steps that grow geometrically to both sides: densities of any width are met, without a search.
    """
    support = _scalar_support(fn)
    if support.is_discrete:
        lowest = getattr(support, "lower_bound", 0)
        highest = getattr(support, "upper_bound", lowest + MOST_COUNTS)
        values = torch.arange(lowest, highest + 1).to(x)
        return torch.cat([density(part).expand(-1, *x.shape) for part in _rows(values, x)]).logsumexp(0)
    transform = biject_to(support)
    span = 20.0 if support is not constraints.real else 4 * x.abs().max().clamp(min=1e-3).item()

    def unconstrained(u: Tensor) -> Tensor:
        t = transform(u)
        inside = support.check(t) & t.isfinite()  # rounding may leave an open support
        t = torch.where(inside, t, transform(torch.zeros_like(u)))
        nats = (density(t) + transform.log_abs_det_jacobian(u, t)).masked_fill(~inside, -torch.inf)
        return nats.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf).expand(-1, *x.shape)

    beyond = torch.linspace(0, 14, 281).exp() * span
    grid = torch.cat([torch.linspace(-span, span, 801), beyond, -beyond]).to(x)
    heights = torch.cat([unconstrained(part) for part in _rows(grid, x)])
    center = grid[heights.argmax(0)]
    if (mean := _mean(fn, x)) is not None:
        mean = transform.inv(mean)
        center = torch.where(unconstrained(mean.unsqueeze(0))[0] > heights.amax(0), mean, center)
    offsets = torch.arange(-16, 12, STEP).exp().to(x) * span
    terms = [unconstrained(center + sign * part) + part.log() for sign in (-1, 1) for part in _rows(offsets, x)]
    return torch.cat(terms).logsumexp(0) + math.log(STEP)


def _scalar_support(fn: Any) -> Any:
    try:
        support = fn.support
    except NotImplementedError:  # a distribution of one's own that does not say
        return constraints.real
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _mean(fn: Any, x: Tensor) -> Tensor | None:
    try:
        mean: Tensor = fn.mean
    except NotImplementedError:
        return None
    return mean.expand(x.shape)


def _rows(values: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Values `(Q,)` for every pixel of x, some at a time: each `(q, 1, ...)`."""
    return values.reshape(-1, *[1] * x.dim()).split(100)
