"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.gaussian import LogDet as logdet
from pyro_simvae.limits.limit import Claim, Limit, Terms
from pyro_simvae.limits.linear import PCA as pca
from pyro_simvae.limits.nearest_neighbour import KoLeo as koleo
from pyro_simvae.limits.second_order import BarlowTwins as barlow_twins
from pyro_simvae.limits.second_order import VICReg as vicreg
from pyro_simvae.limits.whitening import WMSE as wmse

__all__ = [
    "Claim",
    "Limit",
    "Terms",
    "barlow_twins",
    "dcl",
    "infonce",
    "koleo",
    "logdet",
    "pca",
    "simclr",
    "vicreg",
    "wmse",
]
