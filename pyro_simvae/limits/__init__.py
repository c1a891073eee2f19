"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.clustering import DeepCluster as deepcluster
from pyro_simvae.limits.clustering import SwAV as swav
from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.distillation import DINO as dino
from pyro_simvae.limits.gaussian import LogDet as logdet
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.limit import Claim, Limit, Terms
from pyro_simvae.limits.linear import PCA as pca
from pyro_simvae.limits.multimodal import CLIP as clip
from pyro_simvae.limits.nearest_neighbour import KoLeo as koleo
from pyro_simvae.limits.observed import NPID as npid
from pyro_simvae.limits.observed import Softmax as softmax
from pyro_simvae.limits.prediction import BYOL as byol
from pyro_simvae.limits.prediction import SimSiam as simsiam
from pyro_simvae.limits.queue import MoCo as moco
from pyro_simvae.limits.second_order import BarlowTwins as barlow_twins
from pyro_simvae.limits.second_order import VICReg as vicreg
from pyro_simvae.limits.supcon import SupCon as supcon
from pyro_simvae.limits.whitening import WMSE as wmse

LIMITS: dict[str, type[Limit]] = {
    "infonce": infonce,
    "simclr": simclr,
    "moco": moco,
    "dcl": dcl,
    "clip": clip,
    "supcon": supcon,
    "npid": npid,
    "logdet": logdet,
    "koleo": koleo,
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
    "wmse": wmse,
    "simsiam": simsiam,
    "byol": byol,
    "deepcluster": deepcluster,
    "swav": swav,
    "dino": dino,
    "softmax": softmax,
    "pca": pca,
}
"""Every limit by the name that the literature gives it."""

__all__ = ["LIMITS", "Claim", "Given", "Limit", "Terms", *LIMITS]
