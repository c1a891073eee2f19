"""The exact content guide of a Gaussian story: q(c | z_1..J) = p(c | z_1..J), with nothing to learn."""

from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae import conjugate
from pyro_simvae.sites import latent_sites


class ConjugateContent(nn.Module):
    """q(c | z) = Normal(v Σ_j z_j / s², v), 1/v = 1/g² + J/s², with g and s read from the story as they stand.

    With it, log p(c) + Σ_j log p(z_j | c) - log q(c | z) equals log p(z_1..J) for every c drawn.

    Args:
        model: a story for which `why_not_conjugate` finds no reason.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Held out of reach of torch's module tree: the story's parameters are the story's, not the guide's.
        self._story: tuple[Any] = (model,)

    def forward(self, z: Tensor, present: Tensor | None = None) -> dist.TorchDistribution:
        """z: `(N, J, D)`; present: `(N, J)`, or None for all. Returns batch shape `(N, 1)`, event shape `(D,)`."""
        (story,) = self._story
        return conjugate.content_posterior(z, story.style_scale, story.content_scale, present)


def why_not_conjugate(model: Any) -> str | None:
    """The reason why a story's content posterior is not `ConjugateContent`, or None if it is.

    The program decides, not its class: its sites "content" and "z" must be Normal(0, g²) (or flat) and
    Normal(c, s²), with g and s in its attributes `content_scale` and `style_scale`.
    """
    for name in ("content_scale", "style_scale"):
        if not hasattr(model, name):
            return f"because the story has no attribute {name}"
    sites = latent_sites(model)
    content, latent = sites["content"], sites["z"]
    if not conjugate.is_flat(model.content_scale) and not _is_normal(content["fn"], 0.0, model.content_scale):
        return "because the story's content is not Normal(0, content_scale²)"
    if not _is_normal(latent["fn"], content["value"], model.style_scale):
        return "because the story's z is not Normal(content, style_scale²)"
    return None


def _is_normal(fn: dist.TorchDistribution, loc: Tensor | float, scale: Tensor | float) -> bool:
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    if not isinstance(fn, torch.distributions.Normal):
        return False
    expected = [torch.as_tensor(value, dtype=fn.loc.dtype).expand_as(fn.loc) for value in (loc, scale)]
    return torch.allclose(fn.loc, expected[0]) and torch.allclose(fn.scale, expected[1])
