"""What a guide makes of views, as plain encoders: the latent's loc, features, content."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities
from pyro_simvae.networks import Encoder


def latent_of(guide: nn.Module, x: Tensor) -> dist.TorchDistribution:
    """q(z | x) of groups x `(n, J, *event)`, from any guide: batch shape `(n, J)`, event shape `(D,)`.

    The guide's `latent(x)` is asked where it has one; otherwise its site "z" is traced.
    """
    with local_params(guide):
        ask: Any = getattr(guide, "latent", None)
        if ask is None:
            latent: Any = poutine.trace(guide).get_trace(x).nodes["z"]["fn"]
        else:
            latent = ask(x)
    return latent


def content_of(guide: nn.Module, x: Tensor, z: Tensor) -> Tensor | None:
    """The mean of q(content | z) for groups x `(n, J, *event)` with latents z `(n, J, D)`: `(n, D)`.

    None where the guide samples no content with an event of D dimensions. Under a limit it is the guide's own content,
    without the limit's handlers.
    """
    own = getattr(guide, "guide", guide)
    with local_params(own), _Given(z):
        nodes: Any = poutine.trace(own).get_trace(x).nodes
    if "content" not in nodes:
        return None
    mean: Tensor = nodes["content"]["fn"].mean
    return mean.squeeze(1)


class _Given(Messenger):
    """Sets the latent of a guide's run."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z = z

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "z":
            msg["value"], msg["done"] = self.z, True


class LatentLoc(nn.Module):
    """The loc of q(z | x) for single views.

    Args:
        guide: any; see `latent_of`.
    """

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, *event)`. Returns `(n, D)`."""
        return latent_of(self.guide, x.unsqueeze(1)).mean.squeeze(1)


def feature_encoder(guide: nn.Module) -> Encoder | None:
    """The encoder of a guide, or of a limit's; None where it has none of ours, or one for each modality."""
    found = [module for module in guide.modules() if isinstance(module, Encoder)]
    return found[0] if len(found) == 1 else None


class BeforeProjection(nn.Module):
    """The features that an encoder's projection head, or else its last layer, reads.

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, *event)`. Returns `(n, F)`."""
        return self.encoder.before_projection(x)


class OneModality(nn.Module):
    """A guide asked for one modality's latent, with all others missing: as if it were a guide of one kind of view.

    Args:
        guide: of `Modalities`.
        name: the modality.
        event_shapes: {modality: the shape of one view}, in the story's order.
    """

    def __init__(self, guide: nn.Module, name: str, event_shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.guide = guide
        self.name = name
        self.event_shapes = dict(event_shapes)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(n, 1, *event)`: batch shape `(n, 1)`, event shape `(D,)`; a Normal of its moments."""
        views = {name: x.new_zeros(len(x), *shape) for name, shape in self.event_shapes.items()}
        views[self.name] = x[:, 0]
        place = list(views).index(self.name)
        present = torch.arange(len(views), device=x.device).expand(len(x), -1) == place
        with local_params(self.guide):
            site: Any = poutine.trace(self.guide).get_trace(Modalities(views, present)).nodes["z"]
        latent, only = site["fn"], slice(place, place + 1)
        return dist.Normal(latent.mean[:, only], latent.stddev[:, only], validate_args=False).to_event(1)
