"""The amortized mean-field guide: an encoder's Normal for every view's latent, and a content guide of choice."""

from typing import Literal

import pyro
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.guides.amortized import AmortizedContent
from pyro_simvae.guides.conjugate import ConjugateContent, why_not_conjugate
from pyro_simvae.guides.point import PointContent
from pyro_simvae.networks import Encoder
from pyro_simvae.sites import has_site


class MeanField(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ).

        latent    z_ij ~ Normal(loc(x_ij), scale(x_ij))      (N, J, D)
        content   c_i  ~ content(z_i)                        (N, 1, D), if the story has this site

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`.
        content: "conjugate" is exact for Gaussian stories, "amortized" fits any story, "point" is the mean of
            the latents; "auto" takes "conjugate" where it is exact, else "amortized".

    Raises:
        InputError: `content` is "conjugate" for a story where it would not be exact; an unknown `content`.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder,
        content: Literal["auto", "conjugate", "amortized", "point"] = "auto",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.content = _content_guide(model, encoder.latent_dim, content) if has_site(model, "content") else None

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`: batch shape `(N, J)`, event shape `(D,)`."""
        loc, scale = self.encoder(x)
        return Gaussian(loc, scale)

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        with pyro.plate("groups", x.shape[0], dim=-2):
            with pyro.plate("views", x.shape[1], dim=-1):
                z = pyro.sample("z", self.latent(x))
            if self.content is not None:
                pyro.sample("content", self.content(z))


def _content_guide(model: nn.Module, latent_dim: int, content: str) -> nn.Module:
    if content == "auto":
        content = "amortized" if why_not_conjugate(model) else "conjugate"
    if content == "conjugate":
        if reason := why_not_conjugate(model):
            raise InputError(f"the conjugate content guide is not exact here, {reason}: use --guide.content amortized")
        return ConjugateContent(model)
    if content == "amortized":
        return AmortizedContent(latent_dim)
    if content == "point":
        return PointContent()
    raise unknown_name("content guide", content, ["auto", "conjugate", "amortized", "point"])
