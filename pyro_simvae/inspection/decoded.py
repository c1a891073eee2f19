"""What a story makes of latents that are given: the views that they stand for, and the latents of a content.

The story's program is run with these sites set, so that it works for every story file.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.bound import loc_of
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference import rng
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import is_view, latent_sites


def decode(model: nn.Module, z: np.ndarray, content: np.ndarray | None = None) -> np.ndarray:
    """The mean of p(x | z). Latent sites of the story besides z and content are at the centre of their prior.

    Args:
        model: a story with a site "x".
        z: `(*batch, D)`; of a story on the sphere, any vectors but zero: they are scaled onto it.
        content: what broadcasts to `(*batch, C)`; needed only where a view depends on it besides z.

    Returns:
        `(*batch, *event)`.

    Raises:
        InputError: a story whose views are of several modalities.
    """
    flat = _tensor(model, z.reshape(-1, z.shape[-1]))
    if latent_sites(model)["z"]["fn"].support is constraints.sphere:
        flat = nn.functional.normalize(flat, dim=-1)
    # Two views of each, since flat content refuses a single one.
    given = {"z": flat.unsqueeze(1).expand(-1, 2, -1)}
    if content is not None:
        spread = np.broadcast_to(content, (*z.shape[:-1], content.shape[-1]))
        given["content"] = _tensor(model, spread.reshape(-1, 1, content.shape[-1]))
    with torch.no_grad(), local_params(model), evaluating(model):
        sites = _run(model, given, len(flat), 2, seed=0)
        if "x" not in sites:
            raise InputError(
                f"the story {type(model).__name__} has no site 'x', its views are of several modalities: "
                "decode them with its own likelihoods"
            )
        mean: Tensor = sites["x"]["fn"].mean[:, 0]
    return mean.cpu().numpy().reshape(*z.shape[:-1], *mean.shape[1:])


def latent_mean(model: nn.Module, content: np.ndarray) -> np.ndarray:
    """E[z | content] for content `(*batch, C)`: `(*batch, D)`; the content itself in the SimVAE story.

    Raises:
        InputError: a story without content.
    """
    flat = _of_groups(model, content)
    with torch.no_grad(), local_params(model), evaluating(model):
        site = _run(model, {"content": flat}, len(flat), 2, seed=0)["z"]
        mean: Tensor = _centre(site["fn"])[:, 0]
    return mean.cpu().numpy().reshape(*content.shape[:-1], mean.shape[-1])


def draw_given_content(
    model: nn.Module, content: np.ndarray, num_draws: int, seed: int = 0, given: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Draws of z from p(z | content), `(*batch, S, D)`.

    Args:
        model: a story with content.
        content: `(*batch, C)`.
        num_draws: S.
        seed: of the draws.
        given: values of other sites that the latents depend on; where there are none, they are drawn from the prior.

    Raises:
        InputError: a story without content.
    """
    flat = _of_groups(model, content)
    others = {name: _tensor(model, value) for name, value in (given or {}).items()}
    with torch.no_grad(), local_params(model), evaluating(model):
        z: Tensor = _run(model, {**others, "content": flat}, len(flat), num_draws, seed, draw=True)["z"]["value"]
    return z.cpu().numpy().reshape(*content.shape[:-1], num_draws, z.shape[-1])


def _of_groups(model: nn.Module, content: np.ndarray) -> Tensor:
    """Content as the site of so many groups, `(M, 1, C)`."""
    if "content" not in latent_sites(model):
        raise InputError(
            f"the story {type(model).__name__} has no site 'content', its views share nothing that could be set: "
            "give latents instead"
        )
    return _tensor(model, content.reshape(-1, 1, content.shape[-1]))


def _tensor(model: nn.Module, values: np.ndarray) -> Tensor:
    like = next(model.parameters(), torch.zeros(()))
    return torch.as_tensor(np.array(values), dtype=like.dtype, device=like.device)


def _run(
    model: nn.Module, given: Mapping[str, Tensor], num_groups: int, num_views: int, seed: int, draw: bool = False
) -> dict[str, Any]:
    with rng.isolated(seed), _Given(given, draw):
        nodes: Any = poutine.trace(model).get_trace(num_groups=num_groups, num_views=num_views).nodes
    return {name: site for name, site in nodes.items() if site["type"] == "sample"}


def _centre(fn: Any) -> Tensor:
    """The mean of a distribution; its loc where there is no mean, as for heavy tails."""
    mean: Tensor = loc_of(fn)
    inner = fn
    while isinstance(inner, torch.distributions.Independent):
        inner = inner.base_dist
    return torch.where(mean.isnan(), inner.loc, mean) if hasattr(inner, "loc") else mean


class _Given(Messenger):
    """Sets sites to values, and leaves views undrawn; others are drawn, or set to their centre.

    Content that is not given is zero: flat content has neither.
    """

    def __init__(self, values: Mapping[str, Tensor], draw: bool) -> None:
        super().__init__()
        self.values = values
        self.draw = draw

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or (msg["is_observed"] and not is_view(msg["name"])):
            return
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True
        elif msg["name"] == "content":
            like = next(iter(self.values.values()))
            msg["value"], msg["done"] = like.new_zeros(msg["fn"].batch_shape + msg["fn"].event_shape), True
        elif is_view(msg["name"]):
            msg["value"], msg["done"], msg["is_observed"] = torch.zeros(()), True, True
        elif not self.draw and not msg["fn"].support.is_discrete:
            msg["value"], msg["done"] = _centre(msg["fn"]), True
