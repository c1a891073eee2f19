"""Discriminative losses as limits of the same generative program: each takes a (model, guide) pair to its limit's."""

from pyro_simvae.limits.contrastive import DCL as dcl
from pyro_simvae.limits.contrastive import InfoNCE as infonce
from pyro_simvae.limits.contrastive import SimCLR as simclr
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.limit import Claim, Limit, Terms

LIMITS: dict[str, type[Limit]] = {
    "infonce": infonce,
    "simclr": simclr,
    "dcl": dcl,
}
"""Every limit by the name that the literature gives it."""

__all__ = ["LIMITS", "Claim", "Given", "Limit", "Terms", "dcl", "infonce", "simclr"]
