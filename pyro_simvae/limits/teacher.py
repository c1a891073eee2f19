"""The EMA posterior: a point guide whose weights are an average of the student's past ones."""

import copy
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities


class Teacher(nn.Module):
    """A guide that follows another one, ξ ← m ξ + (1 - m) θ, and gives its latent's loc without gradient.

    Args:
        guide: the student; the teacher begins as its copy.
        model: the student's story, which is not copied with it.

    Source: He et al. 2020 (arXiv:1911.05722), equation 2; Tarvainen and Valpola 2017 (arXiv:1703.01780).
    """

    def __init__(self, guide: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.guide = copy.deepcopy(guide, {id(model): model}).requires_grad_(False)

    @torch.no_grad()
    def follow(self, guide: nn.Module, momentum: float) -> None:
        """One step towards the student; buffers, such as running means, are copied.

        Args:
            guide: the student.
            momentum: m in [0, 1].
        """
        for weight, target in zip(self.guide.parameters(), guide.parameters(), strict=True):
            weight.lerp_(target, 1 - momentum)
        for buffer, current in zip(self.guide.buffers(), guide.buffers(), strict=True):
            buffer.copy_(current)

    @torch.no_grad()
    def forward(self, x: Tensor | Modalities) -> Tensor:
        """x: `(N, J, *event)`, or modalities. Returns the loc of q(z | x), `(N, J, D)`."""
        with local_params(self.guide), poutine.block():
            site: Any = poutine.trace(self.guide).get_trace(x).nodes["z"]
        return site["fn"].mean
