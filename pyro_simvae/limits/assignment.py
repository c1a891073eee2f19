"""Assigning latents to clusters: Sinkhorn codes and k-means. No gradients pass through either."""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def sinkhorn(scores: Tensor, num_iterations: int) -> Tensor:
    """Codes that give each cluster the same share of the batch.

        argmax_Q  Σ_mk Q_mk scores_mk + H(Q),   Σ_k Q_mk = 1,  Σ_m Q_mk = M / K

    by alternate scaling in logarithms; the first constraint holds exactly, the second as iterations grow.

    Args:
        scores: `(M, ..., K)`, of the whole batch; batches along the middle dimensions are apart.
        num_iterations: 1 or more.

    Returns:
        `(M, ..., K)`, which sums to 1 over clusters.

    Source: Caron et al. 2020 (arXiv:2006.09882), equations 3 to 5; Cuturi 2013 (arXiv:1306.0895).
    """
    for _ in range(num_iterations):
        scores = scores.log_softmax(0).log_softmax(-1)
    return scores.exp()


@torch.no_grad()
def k_means(z: Tensor, centroids: Tensor, num_iterations: int) -> Tensor:
    """Spherical k-means: Lloyd's iterations from given centroids, on unit vectors.

    An empty cluster begins anew at the latent that its own cluster fits worst, the next one at the second worst: no
    random numbers, so that processes agree.

    Args:
        z: `(M, D)`, unit length, M >= K.
        centroids: `(K, D)`, unit length.
        num_iterations: 0 or more.

    Returns:
        `(K, D)`, unit length.

    Source: Caron et al. 2018 (arXiv:1807.05520), equation 2.
    """
    for _ in range(num_iterations):
        fit, cluster = (z @ centroids.mT).max(-1)
        member = F.one_hot(cluster, len(centroids))
        empty = member.sum(0) == 0
        worst = z[fit.argsort()][(empty.cumsum(0) - 1).clamp(min=0)]
        centroids = F.normalize(torch.where(empty[:, None], worst, member.to(z).mT @ z), dim=-1)
    return centroids
