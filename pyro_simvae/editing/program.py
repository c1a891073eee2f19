"""What the sites of a run show: their names, plates and shapes, for the numbers of groups and views asked for."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn

from pyro_simvae.editing.report import Finding
from pyro_simvae.editing.runs import (
    GROUPS,
    VIEWS,
    Message,
    Run,
    batch_of,
    is_deterministic,
    line_of,
    mistake_and_mend,
    plates_of,
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

    def asked(self) -> dict[str, int]:
        """The arguments of a program that ask for so many draws from the prior."""
        return {"num_groups": self.num_groups, "num_views": self.num_views}


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
    elif trim(found) != trim(batch):
        if not event and len(found) > len(batch):
            yield _undeclared(name, found, event, None)
        else:
            yield broadcast(name, found, batch)


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


def broadcast(name: str, found: tuple[int, ...], batch: tuple[int, ...]) -> Finding:
    """The finding for a site whose batch shape (or density) is not that of its plates."""
    return Finding(
        "broadcast",
        name,
        f"has batch shape {found} where its plates have {batch}",
        "keep groups at dim -2 and views at dim -1 of what it depends on, with size 1 for what all views share",
    )


def trim(shape: tuple[int, ...]) -> tuple[int, ...]:
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
        return broadcast(name, batch, batch_of(site))
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
