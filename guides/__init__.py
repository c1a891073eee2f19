"""Guides q(z | x) q(content | z), amortized over views and groups.

A guide is a module whose constructor takes `(model, encoder, ...)` and whose `forward(x)` samples the story's
latent sites inside the same plates.
"""

from pyro_simvae.guides.amortized import AmortizedContent
from pyro_simvae.guides.conjugate import ConjugateContent
from pyro_simvae.guides.consistent import Consistent
from pyro_simvae.guides.exact import Exact
from pyro_simvae.guides.flow import Flow
from pyro_simvae.guides.full_covariance import FullCovariance
from pyro_simvae.guides.mean_field import MeanField
from pyro_simvae.guides.point import PointContent
from pyro_simvae.guides.semi_amortized import SemiAmortized
from pyro_simvae.guides.spherical import SphericalMeanField

__all__ = [
    "AmortizedContent",
    "ConjugateContent",
    "Consistent",
    "Exact",
    "Flow",
    "FullCovariance",
    "MeanField",
    "PointContent",
    "SemiAmortized",
    "SphericalMeanField",
]
