"""The command `check`: runs a story in several ways and says what is wrong with it, and how to mend it."""

import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from pyro_simvae import components
from pyro_simvae.checks import count
from pyro_simvae.components import Spec
from pyro_simvae.editing.likelihood import draws_faults, likelihood_faults
from pyro_simvae.editing.pair import pair_faults, parameter_faults
from pyro_simvae.editing.parts import Parts, parts
from pyro_simvae.editing.program import Sizes, faults, signature_faults
from pyro_simvae.editing.report import Finding, Report, print_report, rows, unique
from pyro_simvae.editing.runs import (
    SEED,
    evaluating,
    line_of,
    mistake_and_mend,
    record,
)
from pyro_simvae.editing.values import dependence_faults, latent_faults, prior_faults, seen_faults
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import accepted


def check(
    model: Spec,
    guide: Spec = "mean_field",
    data: Spec = "digits",
    network: Spec = "mlp",
    likelihood: Spec = "continuous_bernoulli",
    latent_dim: int = 10,
    num_views: int = 2,
) -> Report:
    """Look for mistakes in a story by running it, and say how to mend each.

    Args:
        model: the story: a known name, path/to/story.py, or path/to/story.py:Class.
        guide: the guide that it is to be fitted with.
        data: the data, a few groups of which are looked at.
        network: of encoder and decoder.
        likelihood: p(x | z).
        latent_dim: D.
        num_views: J, views a group.

    Returns:
        The sites, and the findings; also printed.

    Raises:
        InputError: an option other than the story cannot be used.
    """
    latent_dim, num_views = count("latent_dim", latent_dim), count("num_views", num_views)
    # Groups, views and dimensions are told apart by their numbers.
    num_groups = next(size for size in (5, 6, 7) if size not in (latent_dim, num_views))
    made = parts(data, network, likelihood, latent_dim, num_groups, num_views, SEED)
    story, findings = _construct(model, made)
    if story is None:
        report = Report([], findings)
    else:
        beside, why = _guide(guide, story, made)
        report = inspect_story(story, beside, made.x, latent_dim, made.observed)
        # What is wrong with the story keeps a guide from being made, and has been named.
        report = Report(report.sites, unique([*findings, *report.findings, *(why if not report.faults else [])]))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = 120
    print_report(report, console)
    return report


def inspect_story(
    model: nn.Module,
    guide: nn.Module | None,
    x: Tensor | Modalities,
    latent_dim: int,
    observed: Mapping[str, Tensor] | None = None,
) -> Report:
    """Runs a story's prior at two sizes, the story on views, and one ELBO with its gradient; stops at no mistake.

    Args:
        model: the story.
        guide: its guide; None to look at the story alone.
        x: views, `(N, J, *event)`, or modalities; of few groups, with N, J and D all different.
        latent_dim: D.
        observed: "labels" and "index" of the groups, each `(N,)`, for a story that asks for them.
    """
    with evaluating(*([model] if guide is None else [model, guide])):
        return _inspect(model, guide, x, latent_dim, observed or {})


def _inspect(
    model: nn.Module, guide: nn.Module | None, x: Any, latent_dim: int, observed: Mapping[str, Tensor]
) -> Report:
    sizes = _sizes(x, latent_dim)
    other = _other(sizes, isinstance(x, Modalities))
    prior = record(model, kwargs=sizes.asked())
    resized = record(model, kwargs=other.asked())
    seen = record(model, (x,), accepted(model, observed))
    beside = None if guide is None else record(guide, (x,), accepted(guide, observed))
    found = list(signature_faults(model))
    if not found:
        for run, size in ((seen, sizes), (prior, sizes), (resized, other)):
            found += faults(model, run, size)
    found += parameter_faults(model, guide, seen.params)
    runs = seen.error is None
    if runs:
        _attempt(seen_faults(seen, x, sizes), found)
        _attempt(likelihood_faults(model, seen, x), found)
        _attempt(dependence_faults(seen), found)
        _attempt(latent_faults(seen), found)
    if prior.error is None:
        _attempt(prior_faults(model, prior, sizes), found)
        _attempt(draws_faults(prior, seen), found)
    if runs and guide is not None and beside is not None:
        _attempt(pair_faults(model, guide, beside, x, observed), found)
    return Report(rows(prior.sites | seen.sites, beside), unique(found))


def _attempt(checks: Iterator[Finding], found: list[Finding]) -> None:
    """Adds what a check finds. Where it cannot go on, a fault that was found before is why, or else that is one."""
    try:
        for finding in checks:
            found.append(finding)
    except Exception as error:  # whatever a wrong story may raise
        if not any(finding.is_fault for finding in found):
            mistake, mend = mistake_and_mend(error)
            found.append(Finding("error", "", f"cannot be checked further, {mistake}", mend))


def _sizes(x: Any, latent_dim: int) -> Sizes:
    if isinstance(x, Modalities):
        views = {f"x_{name}": tuple(view.shape[1:]) for name, view in x.views.items()}
    else:
        views = {"x": tuple(x.shape[2:])}
    return Sizes(x.shape[0], x.shape[1], latent_dim, views)


def _other(sizes: Sizes, num_views_is_fixed: bool) -> Sizes:
    """Another N, and another J where the data leaves it open."""
    more = (j for j in itertools.count(sizes.num_views + 1) if j != sizes.latent_dim)
    views = sizes.num_views if num_views_is_fixed else next(more)
    groups = next(n for n in itertools.count(sizes.num_groups + 1) if n not in (views, sizes.latent_dim))
    return sizes._replace(num_groups=groups, num_views=views)


def _construct(spec: Spec, made: Parts) -> tuple[nn.Module | None, list[Finding]]:
    """The story, or None and what keeps it from being made. An InputError is about options, and passes."""
    cls = components.load_class("model", components.normalize("model", spec)["class_path"])
    parameters = inspect.signature(cls).parameters.values()
    lacking = {"likelihood", "latent_dim"} - {parameter.name for parameter in parameters}
    if lacking and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        mend = "write __init__(self, likelihood, latent_dim, ...), with arguments of your own after these"
        message = f"its constructor has no argument {', '.join(sorted(lacking))}"
        return None, [Finding("constructor", "", message, mend)]
    with rng.isolated(SEED):
        try:
            story = made.story(spec)
        except InputError:
            raise
        except Exception as error:  # whatever a user's file may raise
            mistake, mend = mistake_and_mend(error)
            return None, [Finding("constructor", "", f"it cannot be made{line_of(error, cls)}, {mistake}", mend)]
        seeded = torch.initial_seed() != SEED
    mend = "remove torch.manual_seed; the seed is fit's --seed"
    message = "its constructor sets the seed of torch's global generator"
    return story, [Finding("seed", "", message, mend)] if seeded else []


def _guide(spec: Spec, story: nn.Module, made: Parts) -> tuple[nn.Module | None, list[Finding]]:
    """The guide, or None and what keeps it from being made."""
    with rng.isolated(SEED), evaluating(story):
        try:
            return made.guide(spec, story), []
        except Exception as error:  # whatever a story may raise when a guide asks for its sites
            mistake, mend = mistake_and_mend(error)
            return None, [Finding("guide", "", f"it cannot be made for this story, {mistake}", mend)]
