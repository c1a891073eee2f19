"""MoCo: the entropy is a kernel density over a queue of an EMA teacher's past representations."""

import math

import torch
from torch import Tensor, nn

from pyro_simvae.checks import count, fraction, same_dim
from pyro_simvae.inference.gather import gather
from pyro_simvae.limits.contrastive import MAPPING, Contrastive
from pyro_simvae.limits.entropy import log_sum_kernel
from pyro_simvae.limits.geometry import sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import Latents, others
from pyro_simvae.limits.limit import Claim


class Queue(nn.Module):
    """The latest representations of all processes; a new one takes the place of the oldest.

    It begins full of random points of the sphere, as in He et al. 2020.

    Args:
        size: rows that it holds.
        dim: D.

    Attributes:
        rows: `(size, D)`.
        position: where the next row goes, `()`.
    """

    rows: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", sphere(torch.randn(size, dim)))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def add(self, rows: Tensor) -> int:
        """Adds this batch's rows `(N, ..., D)` and those of the other processes. Returns how many it took in."""
        size, dim = self.rows.shape
        rows = gather(rows).reshape(-1, dim)[-size:].to(self.rows)
        places = (self.position + torch.arange(len(rows), device=rows.device)) % size
        self.rows[places] = rows
        self.position.copy_((self.position + len(rows)) % size)
        return len(rows)


class MoCo(Contrastive):
    """Each view against a teacher's view of the same group and a queue of its past ones.

        ℓ_ij = -log [ exp(z_ij·k_ij'/τ) / (exp(z_ij·k_ij'/τ) + Σ_queue exp(z_ij·k/τ)) ]

    with the teacher's k, averaged over j' ≠ j: the paper has one query and one key view a group, and here each view
    is a query in turn. All keys of the batch enter the queue after the step. The density is the teacher's, so for a
    student that has moved on it is a cross-entropy, an upper bound of H[z]. Content is pairwise only: a query and
    its keys are drawn from two posteriors, which no single run of the program holds.

    Args:
        temperature: τ > 0; the default is the paper's. None leaves it to the story's scales.
        queue_size: keys in the queue, K.
        momentum: decay of the teacher's weights at each step, in [0, 1].
        t: as in `Limit`.

    Source: He et al. 2020, *Momentum contrast for unsupervised visual representation learning* (arXiv:1911.05722),
    equations 1 and 2.
    """

    claim = Claim(
        kind="exact up to a constant",
        statement="-objective / NJ = MoCo - log(K + 1), K keys in the queue, teacher and queue held",
        geometry="sphere",
        content="pairwise, the teacher's views given",
        entropy="kernel density over the teacher's queue and the positive, the story's predictive kernel",
        parameters=MAPPING,
        source="He et al. 2020 (arXiv:1911.05722), equation 1",
        reference="lightly NTXentLoss with a memory bank, for the same keys and bank",
    )
    across_batch = False
    queue: Queue

    def __init__(
        self, temperature: float | None = 0.07, queue_size: int = 4096, momentum: float = 0.999, t: float = 1.0
    ) -> None:
        super().__init__(temperature, "pairwise", t)
        self.queue_size = count("queue_size", queue_size)
        self.momentum = fraction("momentum", momentum)

    def build(self, dim: int) -> None:
        if not hasattr(self, "queue"):
            self.queue = Queue(self.queue_size, dim)
        same_dim(self, self.queue.rows.shape[-1], dim)

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        return {"agreement": self._positive(z, latents, given).mean(-1)}

    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        # Of unit length in the precision of z; and a copy, for the queue moves on before the backward pass.
        queue = sphere(self.queue.rows)
        negatives = log_sum_kernel(latents, z.flatten(0, 1), queue)
        total = torch.logaddexp(self._positive(z, latents, given), negatives.reshape(*z.shape[:2], 1))
        return {"entropy": math.log(self.queue_size + 1) - total.mean(-1)}

    def num_candidates(self, num_groups: int, num_views: int) -> int:
        return self.queue_size + 1

    def update(self, z: Tensor, given: Given) -> None:
        assert given.target is not None
        self.queue.add(given.target)

    def _positive(self, z: Tensor, latents: Latents, given: Given) -> Tensor:
        """log p(z_ij | k_ij') for j' ≠ j: `(N, J, J - 1)`."""
        assert given.target is not None
        return latents.predictive(z.unsqueeze(2), others(given.target))
