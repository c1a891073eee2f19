"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.limit import Claim, Limit, Terms
from pyro_simvae.limits.multimodal import CLIP as clip

__all__ = ["Claim", "Limit", "Terms", "clip", "dcl", "infonce", "simclr"]
