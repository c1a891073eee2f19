"""Limits whose content is a point picked by an observed index: which class, or which item of the training set."""

import math
from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae.checks import in_range, positive
from pyro_simvae.errors import InputError
from pyro_simvae.inference.gather import gather
from pyro_simvae.limits.entropy import log_mixture
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents
from pyro_simvae.limits.limit import Claim, Limit
from pyro_simvae.modalities import Modalities

MAPPING = "temperature = variance of a view given its content: s²"


class ObservedContent(Limit):
    """Views drawn around one of K contents c_1..K; which one, k, is observed, and all are as likely.

        agreement   log p(z_ij | c_k)
        entropy     -log p(z_ij),   p(z) = 1/K Σ_l p(z | c_l)

    Their sum is log p(k | z_ij) + log K by Bayes' rule, whatever p(z | c) is. For a Gaussian story on the sphere
    log p(z | c) = z·c/τ - (1 + |c|²)/(2τ) + const with τ = s²; contents of equal norm and a uniform p(k) leave
    log softmax(z·c/τ). (Norms and a p(k) of their own would be the biases of a linear classifier.)

    Args:
        num_contents: K >= 2.
        temperature: τ > 0, in squared units of the sphere's radius; None leaves it to the story's scales.
        t: as in `Limit`.

    Raises:
        InputError: K < 2, or a temperature that is not positive and finite.
    """

    geometry = staticmethod(sphere)
    across_batch = False
    knows_content = True
    least_views = 1

    def __init__(self, num_contents: int, temperature: float | None, t: float) -> None:
        super().__init__(t=t)
        if num_contents < 2:
            raise InputError(
                f"{type(self).__name__} tells {num_contents} classes or items apart: use data with 2 or more"
            )
        self.num_contents = num_contents
        self.temperature = None if temperature is None else positive("temperature", temperature, finite=True)

    @abstractmethod
    def contents(self) -> Tensor:
        """c_1..K, `(K, D)`, of unit length."""

    def picked(self, given: Given) -> Tensor:
        """Which content each group has, `(N,)`."""
        (name,) = self.observes
        return cast(Tensor, getattr(given, name))

    def check(self, z: Tensor | Modalities, given: Given) -> None:
        super().check(z, given)
        in_range(self.observes[0], self.picked(given), self.num_contents)

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        content = self.contents().to(z)[self.picked(given)]
        return {"agreement": latents.given_content(z, content.unsqueeze(1))}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        # A copy: a memory moves on before the backward pass, which still needs it as it was.
        return {"entropy": -log_mixture(latents, z, self.contents().clone().to(z))}

    def temperature_of(self, dim: int) -> float | None:
        return None if self.temperature is None else 2 * self.temperature

    def constants(self, num_groups: int, num_views: int, dim: int) -> dict[str, float]:
        """The normalizer of p(z | c), and K: the literature sums over contents where a density averages."""
        temperature = 0.5 if self.temperature is None else self.temperature
        normalizer = 1 / temperature + dim * math.log(2 * math.pi * temperature) / 2
        return {"agreement": -normalizer, "entropy": normalizer + math.log(self.num_contents)}


class Softmax(ObservedContent):
    """Supervised softmax: classes as contents, learned and of unit length.

        ℓ_ij = -log [ exp(z_ij·w_y/τ) / Σ_k exp(z_ij·w_k/τ) ]

    Args:
        num_classes: K >= 2.
        temperature: τ > 0; None leaves it to the story's style scale.
        t: as in `Limit`.

    Raises:
        InputError: K < 2, or a temperature that is not positive and finite.

    Source: Zhai and Wu 2019, *Classification is a strong baseline for deep metric learning* (arXiv:1811.12649),
    normalized softmax loss; τ = 0.05 there.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = cross-entropy - log K, K classes",
        geometry="sphere",
        content="observed label: a learned location for each class",
        entropy="mixture over classes, all as likely",
        parameters=MAPPING,
        source="Zhai and Wu 2019 (arXiv:1811.12649), normalized softmax loss",
        reference="torch cross_entropy",
    )
    observes = ("labels",)
    weight: nn.Parameter | None

    def __init__(self, num_classes: int, temperature: float | None = 0.05, t: float = 1.0) -> None:
        super().__init__(num_classes, temperature, t)
        self.register_parameter("weight", None)

    def build(self, dim: int) -> None:
        if self.weight is None:
            self.weight = nn.Parameter(torch.randn(self.num_contents, dim))

    def contents(self) -> Tensor:
        assert self.weight is not None
        return F.normalize(self.weight, dim=-1)


class NPID(ObservedContent):
    """Instance discrimination: every training item is a class of its own, whose content is a memory of its latents.

        ℓ_ij = -log [ exp(z_ij·v_i/τ) / Σ_k exp(z_ij·v_k/τ) ]       k over all M items
        v_i  ← normalize(m v_i + (1 - m) mean_j z_ij)               after each step

    The sum is exact: neither the paper's noise-contrastive estimate of it nor the proximal term that steadies
    that estimate is here. The memory begins as random unit vectors.

    Args:
        num_items: M >= 2, items of the training set.
        temperature: τ > 0; None leaves it to the story's style scale.
        memory_momentum: m in [0, 1); how much of an item's memory stays when it is seen.
        t: as in `Limit`.

    Raises:
        InputError: M < 2, a temperature that is not positive and finite, or a momentum outside [0, 1).

    Source: Wu et al. 2018, *Unsupervised feature learning via non-parametric instance discrimination*
    (arXiv:1805.01978), equation 2; the momentum is the authors' code's.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = instance discrimination - log M, M items",
        geometry="sphere",
        content="observed index: a memory of each item's latents",
        entropy="mixture over items, all as likely",
        parameters=MAPPING,
        source="Wu et al. 2018 (arXiv:1805.01978), equation 2",
        reference="the equation, transcribed",
    )
    observes = ("index",)
    memory: Tensor | None

    def __init__(
        self, num_items: int, temperature: float | None = 0.07, memory_momentum: float = 0.5, t: float = 1.0
    ) -> None:
        super().__init__(num_items, temperature, t)
        if not 0 <= memory_momentum < 1:
            raise InputError(f"memory_momentum is {memory_momentum}: give a number in [0, 1)")
        self.memory_momentum = memory_momentum
        self.register_buffer("memory", None)

    def build(self, dim: int) -> None:
        if self.memory is None:
            self.memory = F.normalize(torch.randn(self.num_contents, dim), dim=-1)

    def contents(self) -> Tensor:
        assert self.memory is not None
        return self.memory

    def update(self, z: Tensor, given: Given) -> None:
        memory, index = self.contents(), gather(self.picked(given))
        seen = gather(z).mean(1).to(memory)
        moved = F.normalize(memory[index].lerp(seen, 1 - self.memory_momentum), dim=-1)
        memory.index_copy_(0, index, moved)
