"""What a story's guide shows: the same sites, of the same shapes, reparametrized, and a gradient for each parameter."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyro_simvae.editing.report import Finding
from pyro_simvae.editing.runs import (
    SEED,
    Message,
    Run,
    is_deterministic,
    is_discrete,
    is_enumerated,
    line_of,
    log_prob,
    mistake_and_mend,
    record,
    unwrapped,
)
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.sites import accepted


def pair_faults(
    model: nn.Module, guide: nn.Module, run: Run, x: Any, observed: Mapping[str, Tensor]
) -> Iterator[Finding]:
    """What one ELBO shows of a story that runs, and of its guide, whose run is `run`."""
    if run.error is not None:
        mistake, mend = mistake_and_mend(run.error)
        yield Finding("guide", "", f"the guide does not run{line_of(run.error, type(guide))}, {mistake}", mend)
        return
    given = run.latents()
    story = record(model, (x,), accepted(model, observed), given).sites
    yield from _covered(story, run.sites)
    for name, site in given.items():
        if name in story and not story[name]["is_observed"]:
            yield from _factor_faults(name, story[name], site)
    for name, site in story.items():
        if site["is_observed"] and not is_deterministic(site) and not log_prob(site).isfinite().all():
            mend = "keep values inside of its support, and scales away from zero"
            yield Finding("non_finite", name, "its log-density at the guide's draws is not finite", mend)
    stuck = {name: unwrapped(site["fn"]) for name, site in given.items() if not site["fn"].has_rsample}
    for name, fn in stuck.items():
        message = f"the guide's {type(fn).__name__} is not reparametrized, so that its gradient would be wrong"
        yield Finding("no_rsample", name, message, "give the guide a distribution with rsample")
    if not stuck:
        yield from _gradient_faults(model, guide, x, observed)


def _covered(story: Mapping[str, Message], guide: Mapping[str, Message]) -> Iterator[Finding]:
    """Sites that only one of the two has."""
    for name, site in story.items():
        summed_out = is_enumerated(site) or is_discrete(site)  # or should be, which `latent_faults` says
        if not (site["is_observed"] or is_deterministic(site) or summed_out or name in guide):
            mend = f'sample "{name}" in the guide, or use --guide mean_field'
            yield Finding("missing_in_guide", name, "is latent, and the guide has no such site", mend)
    for name, site in guide.items():
        if name not in story and not site["infer"].get("is_auxiliary") and not is_deterministic(site):
            mend = "remove it from the guide, or give both the same name"
            yield Finding("extra_in_guide", name, "is a site of the guide that the story does not have", mend)


def _factor_faults(name: str, site: Message, factor: Message) -> Iterator[Finding]:
    """What is wrong with a guide's site, beside the story's."""
    shape, expected = tuple(factor["value"].shape), tuple(site["fn"].batch_shape + site["fn"].event_shape)
    if shape != expected:
        mend = "give both the same plates and event shape"
        yield Finding("guide_shape", name, f"is {shape} in the guide and {expected} in the story", mend)
        return
    if not torch.equal(torch.as_tensor(site["scale"]), torch.as_tensor(factor["scale"])):
        message = f"is scaled by {float(site['scale']):g} in the story and by {float(factor['scale']):g} in the guide"
        yield Finding("guide_scale", name, message, "give both the same poutine.scale")
    if not _supports(site["fn"], factor["value"].detach()):
        mend = "use a guide on the same support, such as --guide spherical for directions"
        yield Finding("guide_support", name, "the guide draws values outside of the story's support", mend)
    elif not (log_prob(site).isfinite().all() and log_prob(factor).isfinite().all()):
        mend = "keep scales away from zero, in the story and in the guide"
        yield Finding("non_finite", name, "its log-density at the guide's draws is not finite", mend)


def _supports(fn: Any, value: Tensor) -> bool:
    try:
        return bool(fn.support.check(value).all())
    except NotImplementedError:  # a distribution of one's own that does not say
        return True


def _gradient_faults(model: nn.Module, guide: nn.Module, x: Any, observed: Mapping[str, Tensor]) -> Iterator[Finding]:
    both = nn.ModuleDict({"model": model, "guide": guide})
    parameters = {name: p for name, p in both.named_parameters() if p.requires_grad}
    try:
        with rng.isolated(SEED), _moved(parameters.values()):
            pair = LedgerELBO(model, guide)
            objective = pair(x, **observed).objective
            if not objective.isfinite():  # its terms have been looked at one by one
                return
            pulls: tuple[Tensor | None, ...] = torch.autograd.grad(
                objective, list(parameters.values()), allow_unused=True
            )
    except InputError as error:  # a discrete site that cannot be summed out
        mistake, mend = mistake_and_mend(error)
        yield Finding("elbo", "", f"the ELBO cannot be computed, {mistake}", mend)
        return
    for name, pull in zip(parameters, pulls, strict=True):
        if pull is None:
            mend = "let a density depend on it, without detach or .data, or remove it"
            yield Finding("no_gradient", name, "is a parameter that gets no gradient", mend)
        elif not pull.isfinite().all():
            yield Finding("non_finite", name, "its gradient is not finite", "keep scales away from zero")
        elif not pull.any():
            mend = "see whether it is multiplied by zero or clamped"
            yield Finding("no_gradient", name, "its gradient is zero in this batch", mend, False)


@contextmanager
def _moved(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, parameters are a little off: a layer that starts at zero hides the gradient of what lies behind."""
    before = [(parameter, parameter.detach().clone()) for parameter in parameters]
    with torch.no_grad():
        for parameter, value in before:
            parameter.add_(1e-3 * torch.randn_like(value))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in before:
                parameter.copy_(value)


def parameter_faults(model: nn.Module, guide: nn.Module | None, params: set[str]) -> Iterator[Finding]:
    """What the optimizer, the checkpoint or a move to another device would miss.

    Args:
        model, guide: the pair; parameters may belong to either.
        params: names of `pyro.param` statements in the story's run.
    """
    modules = [model] if guide is None else [model, guide]
    known = {id(tensor) for module in modules for tensor in (*module.parameters(), *module.buffers())}
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            name = f"{path}.{attribute}" if path else attribute
            for tensor in _tensors(value) if not attribute.startswith("_") else ():
                if id(tensor) in known:
                    continue
                if tensor.requires_grad:
                    mend = "make it an nn.Parameter, a PyroParam or (a list of networks) an nn.ModuleList"
                    yield Finding("unregistered", name, "requires a gradient and is no parameter of the story", mend)
                else:
                    message = "is a plain tensor, which stays behind when the story moves to another device"
                    yield Finding("buffer", name, message, f'write self.register_buffer("{attribute}", ...)', False)
    registered = {name.removesuffix("_unconstrained") for name, _ in model.named_parameters()}
    # Pyro separates a network's name from those of its parameters by $$$.
    for name in sorted({name.replace("$$$", ".") for name in params} - registered):
        message = "is a pyro.param in Pyro's global store, which is neither optimized nor saved here"
        yield Finding("global_param", name, message, "make it an nn.Parameter or a PyroParam in the constructor")


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a plain attribute: itself, or those of a container and of networks in it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
