"""Generative stories p(content) p(z | content) p(x | z), one a file.

A story is a module whose constructor takes `(likelihood, latent_dim, ...)` and whose `forward(x, num_groups,
num_views)` is a Pyro program with the sites "z" and "x" (and, where views share something, "content" or a discrete
site), inside the plates "groups" (dim -2) and "views" (dim -1). Views of different shapes have a site each, "x_NAME",
and the story names them in its attribute `modalities`. A story that observes more than views has an argument
`labels` or `index`, each `(N,)`; where that is the user's choice, its attribute `observes` names those of a fit.
"""

from pyro_simvae.models.heavy_tails import HeavyTails
from pyro_simvae.models.hierarchical import Hierarchical
from pyro_simvae.models.instance import Instance
from pyro_simvae.models.linear import LinearGaussian
from pyro_simvae.models.mixture import Mixture
from pyro_simvae.models.multimodal import Multimodal
from pyro_simvae.models.private_style import PrivateStyle
from pyro_simvae.models.relevance import Relevance
from pyro_simvae.models.simvae import SimVAE
from pyro_simvae.models.spherical import Spherical
from pyro_simvae.models.vae import VAE

__all__ = [
    "VAE",
    "HeavyTails",
    "Hierarchical",
    "Instance",
    "LinearGaussian",
    "Mixture",
    "Multimodal",
    "PrivateStyle",
    "Relevance",
    "SimVAE",
    "Spherical",
]
