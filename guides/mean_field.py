"""The amortized mean-field guide: an encoder's Normal for every view's latent, and a content guide of choice."""

from collections.abc import Sequence

from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.distributions import Gaussian
from pyro_simvae.guides.content import Content, content_guide
from pyro_simvae.guides.extra import extra_latents
from pyro_simvae.guides.program import check_not_directions, encode, sample_latents
from pyro_simvae.modalities import Modalities
from pyro_simvae.networks import Encoder, Encoders


class MeanField(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ).

        latent    z_ij ~ Normal(loc(x_ij), scale(x_ij))      (N, J, D)
        content   c_i  ~ content(z_i)                        (N, 1, C), if the story has this site

    A latent site that the story has besides gets a `Factor` given the views.

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`; or one a modality.
        content: "conjugate" is exact for Gaussian stories, "amortized" fits any story, "point" is the mean of
            the latents; "auto" takes "conjugate" where it is exact, else "amortized".
        projection: widths of the hidden layers of a projection head between the encoder's features and the latent, each
            with batch norm; none by default.

    Raises:
        InputError: `content` is "conjugate" for a story where it would not be exact; an unknown `content`; a width
            that is not positive; a story whose latents are directions, or with a site for which there is no `Factor`.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder | Encoders,
        content: Content = "auto",
        projection: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_not_directions(model)
        self.encoder = encoder.projected(projection) if projection else encoder
        self.content = content_guide(model, encoder.latent_dim, content)
        self.extra = extra_latents(model, encoder)

    def latent(self, x: Tensor | Modalities) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`, or modalities: batch shape `(N, J)`, event shape `(D,)`."""
        loc, scale = self.encoder(x)
        return Gaussian(loc, scale)

    def forward(self, x: Tensor | Modalities) -> None:
        """x: `(N, J, *event)`, or modalities, whose missing views are left out."""
        if self.extra is None:
            sample_latents(x, self.latent(x), self.content, None, None)
        else:
            assert isinstance(self.encoder, Encoder)
            assert isinstance(x, Tensor)
            features, loc, scale = encode(self.encoder, x)
            sample_latents(x, Gaussian(loc, scale), self.content, self.extra, features)
