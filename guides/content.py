"""Which content guide a story gets."""

from typing import Literal

from torch import nn

from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.guides.amortized import AmortizedContent
from pyro_simvae.guides.conjugate import ConjugateContent, why_not_conjugate
from pyro_simvae.guides.point import PointContent
from pyro_simvae.sites import latent_sites

Content = Literal["auto", "conjugate", "amortized", "point"]


def content_guide(model: nn.Module, latent_dim: int, content: Content) -> nn.Module | None:
    """q(content | z) of the kind asked for, from z `(N, J, D)` to batch shape `(N, 1)`, event shape `(C,)`.

    Args:
        model: the story, asked once for its sites.
        latent_dim: D.
        content: "conjugate" is exact for Gaussian stories, "amortized" fits any story, "point" is the mean of
            the latents; "auto" takes "conjugate" where it is exact, else "amortized".

    Returns:
        None where the story has no site "content".

    Raises:
        InputError: "conjugate" for a story where it would not be exact; an unknown name.
    """
    sites = latent_sites(model)
    if "content" not in sites:
        return None
    content_dim = sites["content"]["fn"].event_shape[0]
    if content == "auto":
        content = "amortized" if why_not_conjugate(model) else "conjugate"
    if content == "conjugate":
        if reason := why_not_conjugate(model):
            raise InputError(f"the conjugate content guide is not exact here, {reason}: use --guide.content amortized")
        return ConjugateContent(model)
    if content == "amortized":
        return AmortizedContent(latent_dim, content_dim=content_dim)
    if content == "point":
        return PointContent(content_dim)
    raise unknown_name("content guide", content, ["auto", "conjugate", "amortized", "point"])
