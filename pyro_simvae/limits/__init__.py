"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.clustering import DeepCluster as deepcluster
from pyro_simvae.limits.clustering import SwAV as swav
from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.distillation import DINO as dino
from pyro_simvae.limits.limit import Claim, Limit, Terms
from pyro_simvae.limits.prediction import BYOL as byol
from pyro_simvae.limits.prediction import SimSiam as simsiam
from pyro_simvae.limits.queue import MoCo as moco

__all__ = [
    "Claim",
    "Limit",
    "Terms",
    "byol",
    "dcl",
    "deepcluster",
    "dino",
    "infonce",
    "moco",
    "simclr",
    "simsiam",
    "swav",
]
