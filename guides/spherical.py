"""The amortized guide of stories on the sphere: an encoder's direction and concentration for every view."""

from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.guides.amortized import AmortizedContent
from pyro_simvae.guides.extra import extra_latents
from pyro_simvae.guides.program import encode, sample_latents
from pyro_simvae.networks import Encoder
from pyro_simvae.sites import has_site
from pyro_simvae.spherical import PowerSpherical


class SphericalMeanField(PyroModule):
    """q(z, c | x) = Π_i Π_j q(z_ij | x_ij) q(c_i | z_i1..z_iJ), each a PowerSpherical.

        latent    z_ij ~ PowerSpherical(loc / |loc|, 2 / scale²)       loc, scale of x_ij      (N, J, D)
        content   c_i  ~ PowerSpherical(loc / |loc|, 2 / scale²)       loc, scale of z_i       (N, 1, D)

    Loc and scale are those of a Normal in R^D, scale² averaged over dimensions: near its mean direction a
    PowerSpherical varies as a Normal of variance 2/κ. A guide of the same networks as `MeanField` so serves the sphere.
    A latent site that the story has besides gets a `Factor` given the views.

    Args:
        model: the story, asked once for its sites.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`.
    """

    def __init__(self, model: nn.Module, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.content = AmortizedContent(encoder.latent_dim) if has_site(model, "content") else None
        self.extra = extra_latents(model, encoder)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`: batch shape `(N, J)`, event shape `(D,)`."""
        return on_sphere(*self.encoder(x))

    def forward(self, x: Tensor) -> None:
        """x: `(N, J, *event)`."""
        content = None if self.content is None else self._content
        if self.extra is None:
            sample_latents(x, self.latent(x), content, None, None)
        else:
            features, loc, scale = encode(self.encoder, x)
            sample_latents(x, on_sphere(loc, scale), content, self.extra, features)

    def _content(self, z: Tensor, present: Tensor | None) -> dist.TorchDistribution:
        assert self.content is not None
        content = self.content(z, present)
        return on_sphere(content.mean, content.stddev)


def on_sphere(loc: Tensor, scale: Tensor) -> PowerSpherical:
    """The direction of a loc `(..., D)`, as concentrated on the sphere as a Normal of that scale `(..., D)`."""
    return PowerSpherical(F.normalize(loc, dim=-1), 2 / scale.square().mean(-1))
