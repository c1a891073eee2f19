"""The program that the amortized guides share."""

from collections.abc import Callable

import pyro
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.guides.extra import ExtraLatents
from pyro_simvae.modalities import Modalities, present, without_missing
from pyro_simvae.networks import Encoder, Encoders
from pyro_simvae.sites import latent_sites


def sample_latents(
    x: Tensor | Modalities,
    latent: dist.TorchDistribution,
    content: Callable[[Tensor, Tensor | None], dist.TorchDistribution] | None,
    extra: ExtraLatents | None,
    features: Tensor | None,
) -> None:
    """Samples a story's latent sites: z, content given z, and what else there is given the views.

    Args:
        x: `(N, J, *event)`, or modalities, whose missing views are left out.
        latent: q(z | x), batch shape `(N, J)`, event shape `(D,)`.
        content: q(content | z), from z `(N, J, D)` and which views are there; None where the story has no such site.
        extra: the factors of the story's other latent sites, or None.
        features: what these read, `(N, J, F)`.
    """
    there = present(x)
    groups, views = pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1)
    with groups:
        with views, without_missing(there):
            z = pyro.sample("z", latent)
        if content is not None:
            pyro.sample("content", content(z, there))
    if extra is not None:
        extra(features, groups, views)


def encode(encoder: Encoder, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features `(N, J, F)`, loc and scale `(N, J, D)` of views x `(N, J, *event)`, in one pass of the encoder."""
    features = encoder.before_projection(x)
    return features, *encoder.from_features(features)


def check_not_directions(model: nn.Module) -> None:
    """Raises InputError for a story whose latents are directions."""
    if latent_sites(model)["z"]["fn"].support is constraints.sphere:
        raise InputError("the story's latents lie on a sphere, where Normal has no density: use --guide spherical")


def check_one_encoder(guide: str, encoder: Encoder | Encoders) -> None:
    """Raises InputError where a guide that reads features is given an encoder for each modality."""
    if isinstance(encoder, Encoders):
        raise InputError(f"the guide {guide} reads the features of one encoder, not of one a modality: use mean_field")
