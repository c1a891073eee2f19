"""A story's discrete sites, which no guide has because they are summed out: drawn from their exact posterior."""

from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.sites import accepted, is_view, latent_sites, observed_arguments


def enumerated_sites(model: nn.Module) -> list[str]:
    """The story's sites that are marked `infer={"enumerate": "parallel"}`."""
    return [name for name, site in latent_sites(model).items() if site["infer"].get("enumerate")]


class WithDiscrete(nn.Module):
    """q(z, ... | x) p(k | z, ...): a guide, and after it the story's discrete site k of each group.

    Since p(k | z) is exact, log p(x, z, k) - log q(z | x) - log p(k | z) = log p(x, z) - log q(z | x) for every k: the
    importance weights are those of the pair with k summed out.

    Args:
        guide: has all sites of the story but k.
        model: the story, which has one discrete site a group that reaches the view through the latents only.

    Raises:
        InputError: several discrete sites, or one that is no Categorical.
    """

    def __init__(self, guide: nn.Module, model: nn.Module) -> None:
        super().__init__()
        names = enumerated_sites(model)
        if len(names) != 1:
            raise InputError(f"the story has the discrete sites {', '.join(names)}: only one can be drawn")
        (self.name,) = names
        fn = latent_sites(model)[self.name]["fn"]
        if not isinstance(fn, torch.distributions.Categorical):
            raise InputError(
                f"the story's discrete site {self.name!r} is a {type(fn).__name__}, and only a Categorical can be "
                "drawn from its posterior: write it as one"
            )
        self.num_values = fn.probs.shape[-1]
        self.guide = guide
        self._story = (model,)

    @property
    def observes(self) -> set[str]:
        return observed_arguments(self.guide) | observed_arguments(self._story[0])

    def forward(self, x: Tensor, **observed: Tensor) -> None:
        """x: `(N, J, *event)`."""
        with _Values() as drawn:
            self.guide(x, **accepted(self.guide, observed))
        logits = self._log_joint(x, drawn.values, observed)
        with poutine.block():  # it is the guide's plate once more, and no second site of its name
            groups = pyro.plate("groups", x.shape[0], dim=-2)
        with groups:
            pyro.sample(self.name, dist.Categorical(logits=logits, validate_args=False))

    def _log_joint(self, x: Tensor, values: dict[str, Tensor], observed: dict[str, Tensor]) -> Tensor:
        """log p(k, z, ...) up to what does not depend on k: `(..., N, 1, K)`."""
        (story,) = self._story
        plates = values["z"].dim() - 1
        # Blocked: what runs here is no part of the guide's program.
        with (
            poutine.block(),
            poutine.trace() as traced,
            _Undecoded(values),
            poutine.enum(first_available_dim=-1 - plates),
        ):
            story(x, **accepted(story, observed))
        nodes: Any = traced.trace.nodes
        joint = x.new_zeros(())
        for name, site in nodes.items():
            if site["type"] == "sample" and (name in values or name == self.name):
                density = site["fn"].log_prob(site["value"])
                if density.dim() > plates:
                    joint = joint + density.sum(-1, keepdim=True)
        return joint.movedim(0, -1)


class _Values(Messenger):
    """Keeps the values of latent sites."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            self.values[msg["name"]] = msg["value"]


class _Undecoded(Messenger):
    """Sets latent sites to values, and leaves views alone."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True
        elif is_view(msg["name"]):
            msg["value"], msg["done"], msg["is_observed"] = torch.zeros(()), True, True
