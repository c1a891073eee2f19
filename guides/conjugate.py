"""The exact content guide of a Gaussian story: q(c | z_1..J) = p(c | z_1..J), with nothing to learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter

from pyro_simvae import conjugate
from pyro_simvae.errors import InputError
from pyro_simvae.sites import latent_sites


class ConjugateContent(nn.Module):
    """q(c | z) = Normal(v Σ_j z_j / s², v), 1/v = 1/g² + J/s², with g and s read from the story as they stand.

    With it, log p(c) + Σ_j log p(z_j | c) - log q(c | z) equals log p(z_1..J) for every c drawn. Where the content has
    fewer dimensions than z, C < D, it is that of the first C dimensions of z, which alone depend on it.

    Args:
        model: a story for which `why_not_conjugate` finds no reason.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Held out of reach of torch's module tree: the story's parameters are the story's, not the guide's.
        self._story: tuple[Any] = (model,)
        self._content_dim: int = latent_sites(model)["content"]["fn"].event_shape[0]

    def forward(self, z: Tensor, present: Tensor | None = None) -> dist.TorchDistribution:
        """z: `(N, J, D)`; present: `(N, J)`, or None for all. Returns batch shape `(N, 1)`, event shape `(C,)`."""
        (story,) = self._story
        shared = z[..., : self._content_dim]
        return conjugate.content_posterior(shared, story.style_scale, story.content_scale, present)


def why_not_conjugate(model: Any) -> str | None:
    """The reason why a story's content posterior is not `ConjugateContent`, or None if it is.

    The program decides, not its class: its sites "content" and "z" must be Normal(0, g²) (or flat) and
    Normal(c, s²), with g and s in its attributes `content_scale` and `style_scale`. Where the content has fewer
    dimensions than z, the further ones of z must be Normal around 0, of any scale. So it must be wherever the story's
    parameters may move to: it is asked as it stands, and with them moved.
    """
    if reason := _why_not_now(model):
        return reason
    with _moved(model):
        try:
            return _why_not_now(model)
        except (InputError, ValueError):  # as of a parameter that left its range, which the story does not declare
            return "because the story does not run with its parameters moved"


def _why_not_now(model: Any) -> str | None:
    for name in ("content_scale", "style_scale"):
        if not hasattr(model, name):
            return f"because the story has no attribute {name}"
    sites = latent_sites(model)
    content, latent = sites["content"], sites["z"]
    if not conjugate.is_flat(model.content_scale) and not _is_normal(content["fn"], 0.0, model.content_scale):
        return "because the story's content is not Normal(0, content_scale²)"
    private = latent["fn"].event_shape[0] - content["fn"].event_shape[0]
    if not _is_normal(latent["fn"], F.pad(content["value"], (0, private)), model.style_scale, private):
        return "because the story's z is not Normal(content, style_scale²)"
    if private and not _is_same(latent["fn"], latent_sites(model, content_at=2.0)["z"]["fn"], private):
        return "because the scale of z's private dimensions depends on the content"
    return None


@contextmanager
def _moved(model: nn.Module) -> Iterator[None]:
    """Every parameter of a story somewhere else for a while, each number by another amount; its likelihood's stay."""
    named = ((name, p) for name, p in model.named_parameters() if not isinstance(p, UninitializedParameter))
    own = [p for name, p in named if p.is_floating_point() and not name.startswith("likelihood")]
    before = [p.detach().clone() for p in own]
    try:
        with torch.no_grad():
            for p in own:
                p.add_(0.1 + 0.05 * torch.arange(p.numel(), device=p.device).sin().to(p).view_as(p))
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(own, before, strict=True):
                p.copy_(value)


def _is_same(fn: Any, other: Any, private: int) -> bool:
    """Whether two Normals have one scale in the last `private` dimensions."""
    scales = [each.stddev[..., -private:] for each in (fn, other)]
    return torch.allclose(*scales)


def _is_normal(fn: dist.TorchDistribution, loc: Tensor | float, scale: Tensor | float, private: int = 0) -> bool:
    """Whether it is Normal(loc, scale²); the scale of the last `private` dimensions is not looked at."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    if not isinstance(fn, torch.distributions.Normal):
        return False
    found = fn.loc, fn.scale[..., : fn.scale.shape[-1] - private]
    expected = (torch.as_tensor(value, dtype=fn.loc.dtype) for value in (loc, scale))
    return all(torch.allclose(one, other.expand_as(one)) for one, other in zip(found, expected, strict=True))
