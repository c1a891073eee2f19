"""What the values of a story's runs show: what is drawn, observed and scored, and what depends on what."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae.editing.program import Sizes, broadcast, trim
from pyro_simvae.editing.report import Finding
from pyro_simvae.editing.runs import (
    GROUPS,
    VIEWS,
    Message,
    Run,
    batch_of,
    is_deterministic,
    is_discrete,
    is_enumerated,
    is_improper,
    line_of,
    log_prob,
    record,
)
from pyro_simvae.errors import first_line
from pyro_simvae.sites import is_view


def prior_faults(model: nn.Module, run: Run, sizes: Sizes) -> Iterator[Finding]:
    """What two runs of the prior, and one in float64, show of a story that runs."""
    again = record(model, kwargs=sizes.asked())
    for name, site in run.sites.items():
        if is_improper(site["fn"]):
            message = "is improper, so that there are no draws from the prior"
            yield Finding("improper", name, message, "give it a proper distribution if you want to draw", False)
        if not _finite(site["value"]):
            yield Finding("non_finite", name, "its prior draws are not finite", "look at its parameters")
        elif name in again.sites and not torch.equal(site["value"], again.sites[name]["value"]):
            yield Finding(
                "random",
                name,
                "two runs from one seed differ",
                "draw by pyro.sample or torch's global generator only, and keep no state between runs",
            )
            return  # what follows from it differs as well
    yield from _dtype(model, sizes)


def _dtype(model: nn.Module, sizes: Sizes) -> Iterator[Finding]:
    mend = "make constants by register_buffer, or from a parameter as by parameter.new_zeros"
    try:
        double = copy.deepcopy(model).double()
    except RuntimeError:  # a tensor that is no leaf, which is found elsewhere
        return
    run = record(double, kwargs=sizes.asked())
    for name, site in run.sites.items():
        if site["value"].is_floating_point() and site["value"].dtype != torch.float64:
            yield Finding("dtype", name, f"is {site['value'].dtype} in a story of float64", mend, False)
            return  # the sites after it inherit it
    if run.error is not None:
        message = f"does not run in float64{line_of(run.error, type(model))}: {first_line(run.error)}"
        yield Finding("dtype", "", message, mend, False)


def seen_faults(run: Run, x: Any, sizes: Sizes) -> Iterator[Finding]:
    """What a run on views shows: whether they are observed, once, and whether all terms are finite."""
    for name in sizes.views:
        if name in run.sites and not run.sites[name]["is_observed"]:
            yield Finding("unobserved", name, "is drawn although views are given", f'give pyro.sample("{name}") obs=x')
    if isinstance(x, Tensor):
        scored = [n for n, s in run.sites.items() if s["is_observed"] and not is_deterministic(s) and _is(x, s)]
        for name in sorted(scored, key=is_view, reverse=True)[1:]:
            message = "scores the views, which another site scores already"
            yield Finding("scored_twice", name, message, "observe x at one site only")
    for name, site in run.sites.items():
        if is_deterministic(site):
            continue
        try:
            density = log_prob(site)
        except Exception as error:  # whatever a user's distribution may raise
            kind = "support" if isinstance(error, ValueError) else "log_prob"
            yield Finding(kind, name, f"has no density, {first_line(error)}", "give it values in its support")
            continue
        if not _finite(density):
            mend = "keep values inside of its support, and scales away from zero"
            yield Finding("non_finite", name, "its log-density is not finite", mend)
        # A pyro.factor has whatever shape it has; `likelihood_faults` looks at it.
        elif not isinstance(site["fn"], dist.Unit) and trim(tuple(density.shape)) != trim(batch_of(site)):
            yield broadcast(name, tuple(density.shape), batch_of(site))


def _is(x: Tensor, site: Message) -> bool:
    value = site["value"]
    return value.shape[: x.dim()] == x.shape and torch.equal(value, x)


def _finite(value: Tensor) -> bool:
    return bool(value.isfinite().all())


def dependence_faults(run: Run) -> Iterator[Finding]:
    """Latents that nothing depends on, and sites that depend on another group's, or another view's, latents."""
    names = [n for n, s in run.latents().items() if s["value"].requires_grad and not is_deterministic(s)]
    latents = [run.sites[name]["value"] for name in names]
    used: set[str] = set()
    for child, site in run.sites.items():
        if is_deterministic(site) or not (density := log_prob(site)).requires_grad:
            continue
        others = [(n, v) for n, v in zip(names, latents, strict=True) if n != child]
        if not others:
            continue
        # The density of the first group, or of its first view: what else it depends on is across plates.
        dims = {frame.dim for frame in site["cond_indep_stack"]}
        first = density[..., :1, :] if GROUPS in dims else density
        first = first[..., :1] if VIEWS in dims else first
        pulls: tuple[Tensor | None, ...] = torch.autograd.grad(
            first.sum(), [value for _, value in others], retain_graph=True, allow_unused=True
        )
        for (parent, _), pull in zip(others, pulls, strict=True):
            if pull is None or not pull.any():
                continue
            used.add(parent)
            at = {frame.dim for frame in run.sites[parent]["cond_indep_stack"]}
            batch = pull.reshape(*run.sites[parent]["fn"].batch_shape, -1)
            if {GROUPS} <= dims & at and batch[..., 1:, :, :].any():
                yield Finding(
                    "across_groups",
                    child,
                    f"of one group depends on {parent!r} of others, which the plate 'groups' says it does not",
                    "reduce over views and dimensions only, never over groups (dim -2 of plates, 0 of x)",
                )
            if {VIEWS} <= dims & at and batch[..., 0, 1:, :].any():
                yield Finding(
                    "across_views",
                    child,
                    f"of one view depends on {parent!r} of others, which the plate 'views' says it does not",
                    "share through content, or take the site out of the plate",
                    False,
                )
    for name in names:
        if name not in used:
            yield Finding(
                "unused",
                name,
                "nothing in the story depends on it",
                "let the view depend on it" if name == "z" else "let z or the view depend on it, or remove it",
                name == "z",
            )


def latent_faults(run: Run) -> Iterator[Finding]:
    """Latents that no guide here can have, and those that count once a batch instead of once a data set."""
    for name, site in run.latents().items():
        if is_deterministic(site) or is_enumerated(site):
            continue
        if is_discrete(site):
            mend = 'add infer={"enumerate": "parallel"} to its pyro.sample, which sums it out'
            yield Finding("discrete", name, "is discrete, which no guide reparametrizes, and not enumerated", mend)
        inside = any(frame.dim == GROUPS for frame in site["cond_indep_stack"])
        if name not in ("z", "content") and not inside and _unscaled(site):
            yield Finding(
                "global_scale",
                name,
                "is shared by all groups, and counts once a batch instead of once a data set",
                "sample it in `with poutine.scale(scale=num_groups / num_items)`; num_items is given to a constructor "
                "that asks for it",
            )


def _unscaled(site: Message) -> bool:
    return isinstance(site["scale"], int | float) and site["scale"] == 1
