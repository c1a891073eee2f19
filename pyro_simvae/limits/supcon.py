"""Supervised contrast: the latents of one label as one group, across the batch."""

import torch
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import first_row, gather
from pyro_simvae.limits.contrastive import MAPPING, Contrastive
from pyro_simvae.limits.entropy import in_pieces, log_density, log_sum_kernel
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Content


class SupCon(Contrastive):
    """Each latent against all others of the batch, averaged over those with its label, P(ij), outside the logarithm.

        ℓ_ij = -1/|P(ij)| Σ_{p ∈ P(ij)} log [ exp(z_ij·z_p/τ) / Σ_{k ≠ (i, j)} exp(z_ij·z_k/τ) ]

    It is the story with a group for each label, of any size, and one content for all of them:

        agreement   mean_p log p(z | z_p) = mean_p log Normal(z; z_p, 2s² I)        "pairwise"
        entropy     -log mean_k p(z | z_k)                                          the same kernel

    On the sphere the kernel is exp(z·z'/τ) up to a constant, τ = 2s², which cancels between the two. Groups of two
    are NT-Xent. For larger ones this is a pairwise composite likelihood, and not the prediction of z by all of its
    n = |P| partners at once: with m their mean, content integrated out gives

        log p(z | z_p, p ∈ P) = log Normal(z; m, s² (1 + 1/n) I) = (z·m - ½|m|² - ½) n / ((n + 1) s²) + const

    which has the smaller temperature s² (1 + 1/n), and the term -½|m|², which works against the partners' own
    alignment. It is what `content="leave-one-out"` takes for the agreement.

    An anchor alone with its label contributes nothing: its agreement is set to what cancels its entropy. The loss
    is the mean over anchors, as in the authors' code; the paper writes the sum.

    Args:
        temperature: τ > 0; None leaves it to the story's scales.
        content: "pairwise" or "leave-one-out". Joint content scores the story's own groups, which know no labels.
        t: as in `Limit`.

    Raises:
        InputError: `content` is "joint".

    Source: Khosla et al. 2020, *Supervised contrastive learning* (arXiv:2004.11362), equation 2 (L_out); τ = 0.1 in
    the authors' experiments.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = SupCon (L_out) - log(NJ - 1)",
        geometry="sphere",
        content="pairwise, a group for each label; not leave-one-out for labels of three or more latents",
        entropy="leave-one-out kernel density, the story's predictive kernel",
        parameters=MAPPING,
        source="Khosla et al. 2020 (arXiv:2004.11362), equation 2",
        reference="the equation, transcribed",
    )
    observes = ("labels",)
    least_views = 1

    def __init__(self, temperature: float | None = 0.1, content: Content = "pairwise", t: float = 1.0) -> None:
        super().__init__(temperature, content, t)
        if content == "joint":
            raise InputError(
                "SupCon groups latents by label across the batch, and joint content scores the story's own groups: "
                "use content pairwise or leave-one-out"
            )

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        assert given.labels is not None
        num_groups, num_views, dim = z.shape
        pool = gather(z).reshape(-1, dim)
        labels = gather(given.labels).repeat_interleave(num_views)
        start = first_row(z) * num_views
        own = torch.arange(start, start + num_groups * num_views, device=z.device)
        by_label = _leave_one_out if self.content == "leave-one-out" else _pairwise
        return {"agreement": by_label(latents, pool, labels, own).reshape(num_groups, num_views)}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"entropy": -log_density(latents, z)}


def _pairwise(latents: Latents, pool: Tensor, labels: Tensor, own: Tensor) -> Tensor:
    """mean_p log p(z | z_p) over the others of the label, for anchors pool[own], of pool `(K, D)`: `(M,)`."""
    everyone = torch.arange(len(pool), device=pool.device)

    def piece(rows: slice, anchors: Tensor) -> Tensor:
        kernel = latents.kernel(anchors, pool)
        self_pair = own[rows, None] == everyone
        positive = (labels[own[rows], None] == labels) & ~self_pair
        count = positive.sum(-1)
        mean = kernel.masked_fill(~positive, 0.0).sum(-1) / count.clamp(min=1)
        return torch.where(count > 0, mean, kernel.masked_fill(self_pair, -torch.inf).logsumexp(-1))

    return in_pieces(piece, pool[own], len(pool) * latents.floats_per_pair)


def _leave_one_out(latents: Latents, pool: Tensor, labels: Tensor, own: Tensor) -> Tensor:
    """log p(z | all others of the label), for anchors pool[own], of pool `(K, D)`: `(M,)`."""
    everyone = torch.arange(len(pool), device=pool.device)
    order, values = [], []
    for label in labels.unique():
        member = labels == label
        group = pool[member]
        alone = len(group) == 1
        values.append(_density(latents, group, pool, member) if alone else latents.leave_one_out(group[None])[0])
        order.append(everyone[member])
    return torch.cat(values)[torch.cat(order).argsort()][own]


def _density(latents: Latents, z: Tensor, pool: Tensor, excluded: Tensor) -> Tensor:
    """log Σ_k p(z | z_k) over pool `(K, D)` without what is excluded `(K,)`, for z `(1, D)`: `(1,)`."""
    return log_sum_kernel(latents, z, pool, excluded.nonzero().mT)
