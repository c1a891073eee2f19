"""Reading a story's latent sites by running its program once, without its decoder."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.local_params import local_params


def is_view(name: str) -> bool:
    """Whether a site of this name holds views: "x", or "x_NAME" where modalities have sites of their own."""
    return name == "x" or name.startswith("x_")


class _LatentsOnly(Messenger):
    """Gives content a value, since flat content cannot be drawn, and leaves the view undrawn."""

    def __init__(self, like: torch.Tensor, content_at: float) -> None:
        super().__init__()
        self.like = like
        self.content_at = content_at

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "content":
            shape = msg["fn"].batch_shape + msg["fn"].event_shape
            at = self.content_at
            grid = torch.linspace(-at, at, shape.numel(), dtype=self.like.dtype, device=self.like.device)
            msg["value"], msg["done"] = grid.reshape(shape), True
        elif is_view(msg["name"]):
            msg["value"], msg["done"], msg["is_observed"] = self.like.new_zeros(()), True, True


def latent_sites(model: nn.Module, num_groups: int = 2, num_views: int = 2, content_at: float = 1.0) -> dict[str, Any]:
    """The story's unobserved sample sites by name, as Pyro traces them, for so many groups and views.

    Content is set to numbers from -`content_at` to `content_at`.

    Raises:
        InputError: the story lacks the site "z" or "x".
    """
    like = next(model.parameters(), torch.zeros(()))
    devices = [] if like.device.type == "cpu" else [like.device]
    with (
        torch.random.fork_rng(devices=devices, device_type=like.device.type if devices else "cuda"),
        torch.no_grad(),
        local_params(model),
        poutine.block(),  # a handler that asks may itself run inside a traced program
        _LatentsOnly(like, content_at),
    ):
        try:
            trace = poutine.trace(model).get_trace(num_groups=num_groups, num_views=num_views)
        except InputError:
            raise
        except ValueError as error:  # what Pyro raises where shapes and plates do not fit
            if "Expected parameter" in str(error):  # torch's, for a parameter out of range
                raise
            raise InputError(
                f"the story {type(model).__name__} does not run for {num_groups} groups of {num_views} views "
                f"({str(error).splitlines()[0]}): give its sites the plates' dims -2 and -1 and .to_event(1)"
            ) from error
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    for name, found in (("z", "z" in sites), ("x", any(map(is_view, sites)))):
        if not found:
            raise InputError(
                f"the story {type(model).__name__} has no sample site {name!r}: "
                f'write pyro.sample("{name}", ...) in its forward'
            )
    plates = {frame.name for site in sites.values() for frame in site["cond_indep_stack"]}
    return {name: site for name, site in sites.items() if not site["is_observed"] and name not in plates}


def has_site(model: nn.Module, name: str) -> bool:
    """Whether the story has an unobserved sample site of this name."""
    return name in latent_sites(model)


def check_story(model: nn.Module, latent_dim: int, num_views: int) -> None:
    """Runs a story's program once and looks at the shapes of its sites.

    Raises:
        InputError: a missing site, or a site whose shape does not fit N groups of J views of D dimensions.
    """
    num_groups = 3
    sites = latent_sites(model, num_groups, num_views)
    for name, views in (("z", num_views), ("content", 1)):
        if name not in sites:
            continue
        fn = sites[name]["fn"]
        batch, event = tuple(fn.batch_shape), tuple(fn.event_shape)
        # Content may be less than a latent: what the views share of it.
        fits = event == (latent_dim,) if name == "z" else len(event) == 1 and event[0] <= latent_dim
        if batch != (num_groups, views) or not fits:
            raise InputError(
                f"the story's site {name!r} has batch shape {batch} and event shape {event} for {num_groups} groups of "
                f"{num_views} views and latent_dim {latent_dim}: it must be {(num_groups, views)} and ({latent_dim},); "
                "use .to_event(1) and the plates' dims -2 and -1"
            )


def observed_arguments(program: nn.Module) -> set[str]:
    """What of "labels" and "index" a program asks for: what its `observes` names, or else arguments of its forward."""
    asked = getattr(program, "observes", None)
    return {"labels", "index"} & {*(inspect.signature(program.forward).parameters if asked is None else asked)}


def accepted(program: nn.Module, observed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of the observed, what the program asks for."""
    if not observed:
        return {}
    names = observed_arguments(program)
    return {name: value for name, value in observed.items() if name in names}
