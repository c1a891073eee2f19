"""DeepCluster and SwAV: content is discrete, one of K clusters, and the story a mixture.

    p(k) = 1/K,   p(z | k) = the story's own p(z | c) at c = prototype k,   p(z) = (1/K) Σ_k p(z | k)

On the sphere a Gaussian story gives p(z | k) ∝ exp(z·c_k / s²), so that the softmax over prototypes at temperature
τ = s² is the posterior p(k | z). With the assignments q held, the cross-entropy that these methods minimize is

    -Σ_k q(k) log p(k | z) = -[ Σ_k q(k) log p(z | k)  -  log p(z) ]  +  log K

agreement of z with the cluster that the group is assigned to, and the entropy of z by the density of the mixture, as
contrastive limits have it by a kernel density. Without the second term it were the M step of EM alone, and collapse
its maximum. Where assignments are balanced, H[k] = log K, the objective is Barber and Agakov's lower bound of
the mutual information of k and z, H[k] + E log p(k | z); where they are not, it exceeds that bound by log K - H[k], and
putting all latents in one cluster pays. That is why each method balances its assignments in some way.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.checks import count, positive, same_dim
from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import first_row, gather
from pyro_simvae.limits.assignment import k_means, sinkhorn
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents, others
from pyro_simvae.limits.limit import Claim, Limit
from pyro_simvae.limits.queue import Queue

DENSITY = "density of the mixture, the story's p(z | c) at the prototypes"
MAPPING = "temperature = s², variance of a view given its content (flat content)"


class Clustering(Limit):
    """What limits with discrete content share: prototypes, and their mixture under the story.

    Args:
        num_prototypes: K >= 2.
        temperature: τ > 0, in squared units of the sphere's radius.
        t: as in `Limit`.
    """

    geometry = staticmethod(sphere)
    across_batch = False
    knows_content = True
    prototypes: Tensor

    def __init__(self, num_prototypes: int, temperature: float, t: float) -> None:
        super().__init__("pairwise", t)
        self.num_prototypes = count("num_prototypes", num_prototypes, least=2)
        self.temperature = positive("temperature", temperature, finite=True)

    def build(self, dim: int) -> None:
        if not hasattr(self, "prototypes"):
            self.prototypes = nn.Parameter(sphere(torch.randn(self.num_prototypes, dim)))
        same_dim(self, self.prototypes.shape[-1], dim)

    @abstractmethod
    def assignments(self, z: Tensor, latents: Latents, given: Given) -> Tensor:
        """q_ij(k), to which cluster each view should belong, `(N, J, K)` or broadcast to it; without gradient."""

    def temperature_of(self, dim: int) -> float:
        return 2 * self.temperature

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        with torch.no_grad():
            assignments = self.assignments(z, latents, given)
        return {"agreement": (assignments * log_components(latents, z, self.prototypes)).sum(-1)}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        log_density = log_components(latents, z, self.prototypes).logsumexp(-1) - math.log(self.num_prototypes)
        return {"entropy": -log_density}

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        """The density's normalizer, and the number of clusters: the literature sums where a mixture averages."""
        normalizer = 1 / self.temperature + dim * math.log(2 * math.pi * self.temperature) / 2
        return {"agreement": -normalizer, "entropy": normalizer + math.log(self.num_prototypes)}


def log_components(latents: Latents, z: Tensor, prototypes: Tensor) -> Tensor:
    """log p(z_ij | c_k) for z `(N, J, D)` and prototypes `(K, D)` of any length: `(N, J, K)`."""
    return latents.content_kernel(z.flatten(0, 1), sphere(prototypes)).unflatten(0, z.shape[:2])


class SwAV(Clustering):
    """Each view predicts the balanced code of another.

        ℓ_ij = -Σ_k q_ij'(k) log softmax_k(z_ij·c / τ),   q_·j' = Sinkhorn(z_·j'·c / ε)

    averaged over j' ≠ j, with codes over the batch of all processes. In the story the codes are posteriors
    p(k | z_ij') to the power τ / ε with equal shares: the E step with ε / τ times the entropy of q.

    Args:
        num_prototypes: K; the paper has 3000 for ImageNet's thousand classes.
        temperature: τ > 0.
        epsilon: ε > 0, the weight of the codes' entropy, in the units of τ.
        num_iterations: of Sinkhorn's algorithm.
        t: as in `Limit`.

    Source: Caron et al. 2020, *Unsupervised learning of visual features by contrasting cluster assignments*
    (arXiv:2006.09882), equations 1 to 5.
    """

    claim = Claim(
        kind="alternating step",
        statement="-objective / NJ = SwAV - log K, codes held",
        geometry="sphere",
        content="discrete: Sinkhorn codes of the other views",
        entropy=DENSITY,
        parameters=MAPPING,
        source="Caron et al. 2020 (arXiv:2006.09882), equations 1 to 5",
        reference="lightly SwaVLoss",
    )
    across_batch = True

    def __init__(
        self,
        num_prototypes: int = 512,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        num_iterations: int = 3,
        t: float = 1.0,
    ) -> None:
        super().__init__(num_prototypes, temperature, t)
        self.epsilon = positive("epsilon", epsilon, finite=True)
        self.num_iterations = count("num_iterations", num_iterations)

    def assignments(self, z: Tensor, latents: Latents, given: Given) -> Tensor:
        scores = self.temperature / self.epsilon * log_components(latents, z, self.prototypes)
        codes = sinkhorn(gather(scores), self.num_iterations)
        start = first_row(z)
        return others(codes[start : start + len(z)]).mean(2)


class DeepCluster(Clustering):
    """Each view predicts the cluster of its group, with clusters by k-means.

        ℓ_ij = -log softmax_k(z_ij·c / τ) at k = k_i,   k_i = argmax_k Σ_j log p(z_ij | k)

    The paper clusters the training set between epochs, and trains a classifier anew for each clustering. To fit
    in the steps of SVI, k-means runs here on a memory of the latest representations, once each time that all of it has
    been renewed, and starts from the last centroids; so clusters keep their names, and the centroids serve as the
    classifier (as in the "DeepCluster-v2" of Caron et al. 2020). Until the first time they are random directions.
    It is hard EM on the mixture: k_i is the most probable cluster given all views of its group, under the story as it
    stands, and the centroids are those of cosines whatever the story.

    Args:
        num_prototypes: K; the paper takes ten for each class that one expects.
        temperature: τ > 0.
        memory_size: representations that k-means sees, K or more.
        num_iterations: of k-means, each time.
        t: as in `Limit`.

    Raises:
        InputError: a memory smaller than K.

    Source: Caron et al. 2018, *Deep clustering for unsupervised learning of visual features* (arXiv:1807.05520),
    equations 1 and 2.
    """

    claim = Claim(
        kind="alternating step",
        statement="-objective / NJ = DeepCluster - log K, clusters held",
        geometry="sphere",
        content="discrete: the group's cluster, by k-means",
        entropy=DENSITY,
        parameters=MAPPING,
        source="Caron et al. 2018 (arXiv:1807.05520), equations 1 and 2",
        reference="the equations, transcribed",
    )
    least_views = 1
    memory: Queue

    def __init__(
        self,
        num_prototypes: int = 100,
        temperature: float = 0.1,
        memory_size: int = 4096,
        num_iterations: int = 10,
        t: float = 1.0,
    ) -> None:
        super().__init__(num_prototypes, temperature, t)
        self.memory_size = count("memory_size", memory_size)
        self.num_iterations = count("num_iterations", num_iterations)
        if memory_size < num_prototypes:
            raise InputError(
                f"a memory of {memory_size} has fewer representations than the {num_prototypes} clusters that "
                "it should fill: give a larger memory_size, or fewer num_prototypes"
            )

    def build(self, dim: int) -> None:
        if not hasattr(self, "memory"):
            self.register_buffer("prototypes", sphere(torch.randn(self.num_prototypes, dim)))
            self.memory = Queue(self.memory_size, dim)
        super().build(dim)

    def assignments(self, z: Tensor, latents: Latents, given: Given) -> Tensor:
        cluster = log_components(latents, z, self.prototypes).sum(1, keepdim=True).argmax(-1)
        return F.one_hot(cluster, self.num_prototypes).to(z)

    def update(self, z: Tensor, given: Given) -> None:
        start = int(self.memory.position)
        if start + self.memory.add(z) >= self.memory_size:
            # A new tensor, for the backward pass still needs the last.
            self.prototypes = k_means(self.memory.rows, self.prototypes, self.num_iterations)
