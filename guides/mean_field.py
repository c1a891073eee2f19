"""The amortized mean-field guide: an encoder's Normal for every view's latent, and a content guide of choice."""

from collections.abc import Sequence
from typing import Any, Literal

import pyro
from pyro import distributions as dist
from pyro.distributions import constraints
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.guides.amortized import AmortizedContent
from pyro_simvae.guides.conjugate import ConjugateContent, why_not_conjugate
from pyro_simvae.guides.point import PointContent
from pyro_simvae.modalities import Modalities, present, without_missing
from pyro_simvae.networks import Encoder, Encoders
from pyro_simvae.sites import has_site, latent_sites


class MeanField(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ).

        latent    z_ij ~ Normal(loc(x_ij), scale(x_ij))      (N, J, D)
        content   c_i  ~ content(z_i)                        (N, 1, D), if the story has this site

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`; or one a modality.
        content: "conjugate" is exact for Gaussian stories, "amortized" fits any story, "point" is the mean of
            the latents; "auto" takes "conjugate" where it is exact, else "amortized".
        projection: widths of the hidden layers of a projection head between the encoder's features and the latent;
            none by default.

    Raises:
        InputError: `content` is "conjugate" for a story where it would not be exact; an unknown `content`; a width
            that is not positive; a story whose latents are directions.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder | Encoders,
        content: Literal["auto", "conjugate", "amortized", "point"] = "auto",
        projection: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if latent_sites(model)["z"]["fn"].support is constraints.sphere:
            raise InputError("the story's latents lie on a sphere, where Normal has no density: use --guide spherical")
        self.encoder = encoder.projected(projection) if projection else encoder
        self.content = _content_guide(model, encoder.latent_dim, content) if has_site(model, "content") else None

    def latent(self, x: Tensor | Modalities) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`, or modalities: batch shape `(N, J)`, event shape `(D,)`."""
        loc, scale = self.encoder(x)
        return Gaussian(loc, scale)

    @property
    def has_projection(self) -> bool:
        """Whether a projection head stands between features and latent."""
        return isinstance(self.encoder, Encoder) and len(self.encoder.projection) > 0

    def before_projection(self, x: Tensor) -> Tensor:
        """What the projection head reads of x `(N, J, *event)`: `(N, J, F)`."""
        encoder: Any = self.encoder
        return encoder.before_projection(x)

    def forward(self, x: Tensor | Modalities) -> None:
        """x: `(N, J, *event)`, or modalities, whose missing views are left out."""
        there = present(x)
        with pyro.plate("groups", x.shape[0], dim=-2):
            with pyro.plate("views", x.shape[1], dim=-1), without_missing(there):
                z = pyro.sample("z", self.latent(x))
            if self.content is not None:
                pyro.sample("content", self.content(z, there))


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
