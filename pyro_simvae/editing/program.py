"""What a story's own runs show: its sites and their names, plates, shapes, sizes, and what makes them random."""

import copy
import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae.editing.report import Finding
from pyro_simvae.editing.runs import (
    GROUPS,
    VIEWS,
    Message,
    Run,
    batch_of,
    first_line,
    is_deterministic,
    is_enumerated,
    is_improper,
    line_of,
    log_prob,
    mistake_and_mend,
    plates_of,
    record,
    site_of,
)
from pyro_simvae.sites import is_view

FORWARD = "write forward(self, x=None, num_groups=1, num_views=2), with plates of these sizes where x is None"


class Sizes(NamedTuple):
    """What a run was asked for: N, J, D, and the shape of one view at each site of views."""

    num_groups: int
    num_views: int
    latent_dim: int
    views: Mapping[str, tuple[int, ...]]


def faults(model: nn.Module, run: Run, sizes: Sizes) -> Iterator[Finding]:
    """What is wrong with the sites of one run, and, where nothing is that explains it, with what stopped it."""
    found = [finding for name, site in run.sites.items() for finding in _site_faults(name, site, sizes)]
    if run.error is None:
        found += _names(run, sizes)
    elif not found:
        found += [_stopped(model, run.error, sizes)]
    yield from found
    if run.seeded:
        yield Finding(
            "seed",
            "",
            "the story sets the seed of torch's global generator, so that all its draws are the same",
            "remove torch.manual_seed; the seed is fit's --seed",
        )


def _names(run: Run, sizes: Sizes) -> Iterator[Finding]:
    """Sites that are missing, or that are written otherwise than everything else expects."""
    others = [name for name in run.sites if name not in ("content", "z", *sizes.views)]
    for name in ("z", *sizes.views):
        if name not in run.sites:
            near = _nearest(name, others)
            mend = f"rename {near!r}" if near else f'write pyro.sample("{name}", ...) in its forward'
            found = ", ".join(run.sites) or "none"
            yield Finding("missing_site", name, f"there is no sample site of this name, only {found}", mend)
    if "content" not in run.sites and (near := _nearest("content", others)):
        yield Finding(
            "misspelt_content",
            near,
            'looks like the content, which guides and evaluation know as "content" only',
            'rename it to "content"',
        )


def _nearest(name: str, others: list[str]) -> str | None:
    lower = {other.lower(): other for other in others}
    return next((lower[near] for near in difflib.get_close_matches(name, lower, n=1, cutoff=0.8)), None)


def _site_faults(name: str, site: Message, sizes: Sizes) -> Iterator[Finding]:
    if is_deterministic(site):
        return
    found = list(_plate_faults(name, site, sizes))
    yield from found or _shape_faults(name, site, sizes)


def _plate_faults(name: str, site: Message, sizes: Sizes) -> Iterator[Finding]:
    plates = plates_of(site)
    at = {frame.dim: frame.name for frame in plates.values()}
    per_view = name in ("z", "x")
    per_group = per_view or name == "content" or name in sizes.views
    for plate, dim, size, argument, needed in (
        ("groups", GROUPS, sizes.num_groups, "num_groups", per_group),
        ("views", VIEWS, sizes.num_views, "num_views", per_view),
    ):
        frame = plates.get(plate)
        if frame is not None and frame.dim != dim:
            mend = f'write pyro.plate("{plate}", {argument}, dim={dim})'
            yield Finding("plate_dim", name, f"its plate {plate!r} is at dim {frame.dim} instead of {dim}", mend)
        elif frame is not None and frame.size != size:
            yield Finding(
                "plate_size",
                name,
                f"its plate {plate!r} has size {frame.size} where {size} are asked for",
                f"let its size follow {argument}, and x.shape where x is given",
            )
        elif frame is None and dim in at and needed:
            message = f"its plate at dim {dim} is named {at[dim]!r} instead of {plate!r}"
            yield Finding("plate_name", name, message, f"rename the plate to {plate!r}")
        elif frame is None and needed:
            mend = f'write it inside pyro.plate("{plate}", {argument}, dim={dim})'
            yield Finding("plate_missing", name, f"is outside of the plate {plate!r}", mend)
    if name == "content" and "views" in plates:
        yield Finding(
            "content_per_view",
            name,
            "is inside the plate 'views', so that every view draws its own and nothing is shared",
            'write it in the plate "groups" and before the plate "views"',
        )


def _shape_faults(name: str, site: Message, sizes: Sizes) -> Iterator[Finding]:
    fn, batch = site["fn"], batch_of(site)
    event, found = tuple(fn.event_shape), tuple(fn.batch_shape)
    expected = _event_shape(name, sizes)
    content_fits = name == "content" and len(event) == 1 and event[0] <= sizes.latent_dim
    if expected is not None and event != expected and not content_fits:
        yield _undeclared(name, found, event, expected)
    elif _trim(found) != _trim(batch):
        if not event and len(found) > len(batch):
            yield _undeclared(name, found, event, None)
        else:
            yield _broadcast(name, found, batch)


def _event_shape(name: str, sizes: Sizes) -> tuple[int, ...] | None:
    """What one draw of a site must be; None where that is the story's affair."""
    if name in sizes.views:
        return tuple(sizes.views[name])
    return (sizes.latent_dim,) if name in ("z", "content") else None


def _undeclared(name: str, batch: tuple[int, ...], event: tuple[int, ...], expected: tuple[int, ...] | None) -> Finding:
    shapes = f"has batch shape {batch} and event shape {event}"
    if expected is None:
        return Finding("event_shape", name, shapes, "declare what belongs to one draw, as by .to_event(1)")
    if len(event) < len(expected):
        mend = f"declare what belongs to one draw by .to_event({len(expected) - len(event)})"
    else:
        mend = "let its last dimensions be those of " + ("a view of the data" if is_view(name) else "latent_dim")
    return Finding("event_shape", name, f"{shapes} instead of {expected}", mend)


def _broadcast(name: str, found: tuple[int, ...], batch: tuple[int, ...]) -> Finding:
    return Finding(
        "broadcast",
        name,
        f"has batch shape {found} where its plates have {batch}",
        "keep groups at dim -2 and views at dim -1 of what it depends on, with size 1 for what all views share",
    )


def _trim(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without leading ones, which broadcast to nothing."""
    start = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return shape[start:]


def _stopped(model: nn.Module, error: Exception, sizes: Sizes) -> Finding:
    """The finding for a run that did not come to its end."""
    site, where = site_of(error), line_of(error, type(model))
    if site is not None and "Shape mismatch" in str(error):
        name, fn = site["name"], site["fn"]
        batch, event, expected = tuple(fn.batch_shape), tuple(fn.event_shape), _event_shape(site["name"], sizes)
        if (expected is not None and len(event) < len(expected)) or (expected is None and not event):
            return _undeclared(name, batch, event, expected)
        return _broadcast(name, batch, batch_of(site))
    what, mend = mistake_and_mend(error)
    asked = f"{sizes.num_groups} groups of {sizes.num_views} views"
    return Finding("error", "", f"does not run for {asked}{where}, {what}", mend)


def signature_faults(model: nn.Module) -> Iterator[Finding]:
    """Arguments that the program lacks."""
    parameters = inspect.signature(model.forward).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = [parameter.name for parameter in parameters]
        if missing := [name for name in ("x", "num_groups", "num_views") if name not in names]:
            yield Finding("forward", "", f"its forward has no argument {', '.join(missing)}", FORWARD)


def prior_faults(model: nn.Module, run: Run, sizes: Sizes) -> Iterator[Finding]:
    """What two runs of the prior, and one in float64, show of a story that runs."""
    again = record(model, num_groups=sizes.num_groups, num_views=sizes.num_views)
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
    run = record(double, num_groups=sizes.num_groups, num_views=sizes.num_views)
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
        elif not isinstance(site["fn"], dist.Unit) and _trim(tuple(density.shape)) != _trim(batch_of(site)):
            yield _broadcast(name, tuple(density.shape), batch_of(site))


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
        pulls = torch.autograd.grad(first.sum(), [v for _, v in others], retain_graph=True, allow_unused=True)
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


def global_faults(run: Run) -> Iterator[Finding]:
    """Latents outside of the groups that count once a batch instead of once a data set."""
    for name, site in run.latents().items():
        if name in ("z", "content") or is_deterministic(site) or is_enumerated(site):
            continue
        inside = any(frame.dim == GROUPS for frame in site["cond_indep_stack"])
        if not inside and isinstance(site["scale"], int | float) and site["scale"] == 1:
            yield Finding(
                "global_scale",
                name,
                "is shared by all groups, and counts once a batch instead of once a data set",
                "sample it in `with poutine.scale(scale=num_groups / num_items)`; num_items is given to a constructor "
                "that asks for it",
            )
