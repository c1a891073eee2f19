"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.limit import Claim, Limit, Terms
from pyro_simvae.limits.observed import NPID as npid
from pyro_simvae.limits.observed import Softmax as softmax
from pyro_simvae.limits.supcon import SupCon as supcon

__all__ = ["Claim", "Given", "Limit", "Terms", "dcl", "infonce", "npid", "simclr", "softmax", "supcon"]
