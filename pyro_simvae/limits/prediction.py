"""SimSiam and BYOL: content is set to what a predictor makes of one view, and must explain another.

The agreement is the plug-in form of the predictive density, log p(z | z') = log ∫ p(z | c) p(c | z') dc with a point
guide c = h(z') in place of p(c | z'): the story's own p(z | c). No entropy is estimated, so collapse attains the
maximum. What these methods do instead is to hold one side: with the latents held, h and its encoder seek the content
that explains them; then the latents are renewed (Chen and He 2021, section 5). That alone does not keep them from
collapse: it takes batch norm in the encoder or in a projection head (their table 3; `--guide.projection`). On the
sphere a Gaussian story has -|z - c|² / 2s² = (cos(z, c) - 1) / s², so that s² is but the scale of the loss.
"""

import math
from typing import ClassVar

from torch import Tensor, nn

from pyro_simvae.checks import count, fraction, same_dim
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents, others
from pyro_simvae.limits.limit import Claim, Limit


class Predictor(nn.Module):
    """h of the content's guide q(c | z) = δ(c - h(z)): two layers, the result on the unit sphere.

    The literature normalizes the hidden layer over the batch, here it is done over its units: predictions then do
    not depend on the other groups or processes. As the first layer has no bias, h also ignores the length of z (but
    for layer norm's eps), and it does not matter that the literature's reads z before its projection to the sphere.

    Args:
        dim: D.
        hidden: units of the hidden layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, z: Tensor) -> Tensor:
        """z: `(..., D)`. Returns the same shape."""
        return sphere(self.layers(z))


class Prediction(Limit):
    """What SimSiam and BYOL share: content h(z_ij') explains a held z̃_ij, averaged over j' ≠ j.

    Args:
        hidden: units of the predictor's hidden layer.
        t: as in `Limit`.
    """

    geometry = staticmethod(sphere)
    across_batch = False
    knows_content = True
    style_variance: ClassVar[float]
    """s², in squared units of the sphere's radius: what makes the literature's loss the story's nats."""
    predictor: Predictor

    def __init__(self, hidden: int, t: float) -> None:
        super().__init__("pairwise", t)
        self.hidden = count("hidden", hidden)

    def build(self, dim: int) -> None:
        if not hasattr(self, "predictor"):
            self.predictor = Predictor(dim, self.hidden)
        same_dim(self, self.predictor.dim, dim)

    def temperature_of(self, dim: int) -> float:
        return 2 * self.style_variance

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        held = z.detach() if given.target is None else given.target
        content = others(self.predictor(z))
        return {"agreement": latents.given_content(held.unsqueeze(2), content).mean(-1)}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {}


class SimSiam(Prediction):
    """Negative cosine of a prediction and another view's latent, held by a stop-gradient.

        ℓ_ij = -cos(h(z_ij'), stop-gradient(z_ij))

    Args:
        hidden: units of the predictor's hidden layer; the default is the paper's.
        t: as in `Limit`.

    Source: Chen and He 2021, *Exploring simple Siamese representation learning* (arXiv:2011.10566), equations 1 to 4.
    """

    claim = Claim(
        kind="alternating step",
        statement="-objective / NJ = SimSiam + 1 + ½ D log 2π at s² = 1; at other s², 1/s² times SimSiam + a constant",
        geometry="sphere",
        content="point, predicted from another view; the latents held",
        entropy="none: collapse is a maximum, which the alternation avoids where there is batch norm before it",
        parameters="s² = 1, in squared units of the sphere's radius",
        source="Chen and He 2021 (arXiv:2011.10566), equations 1 to 4",
        reference="lightly NegativeCosineSimilarity",
    )
    style_variance = 1.0

    def __init__(self, hidden: int = 512, t: float = 1.0) -> None:
        super().__init__(hidden, t)

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        return {"agreement": -1 - dim * math.log(2 * math.pi) / 2}


class BYOL(Prediction):
    """Squared distance of a prediction and the EMA teacher's latent of another view, both on the sphere.

        ℓ_ij = |h(z_ij') - z̃_ij|² = 2 - 2 cos(h(z_ij'), z̃_ij)

    The mean over all views; the paper's symmetrised loss is the sum of the two views' losses, twice the mean.

    Args:
        hidden: units of the predictor's hidden layer; the default is the paper's.
        momentum: decay of the teacher's weights at each step, in [0, 1].
        t: as in `Limit`.

    Source: Grill et al. 2020, *Bootstrap your own latent* (arXiv:2006.07733), equation 2.
    """

    claim = Claim(
        kind="alternating step",
        statement="-objective / NJ = BYOL + ½ D log π at s² = ½; at other s², 1/(2 s²) times BYOL + a constant",
        geometry="sphere",
        content="point, predicted from another view; the latents held by an EMA teacher",
        entropy="none: collapse is a maximum, which the alternation avoids where there is batch norm before it",
        parameters="s² = ½, in squared units of the sphere's radius",
        source="Grill et al. 2020 (arXiv:2006.07733), equation 2",
        reference="lightly NegativeCosineSimilarity, 2 + 2 times it",
    )
    style_variance = 0.5

    def __init__(self, hidden: int = 4096, momentum: float = 0.996, t: float = 1.0) -> None:
        super().__init__(hidden, t)
        self.momentum = fraction("momentum", momentum)

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        return {"agreement": -dim * math.log(math.pi) / 2}
