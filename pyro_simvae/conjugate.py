"""The Gaussian story in closed form: what conjugacy gives exactly, one dimension at a time.

    content   c    ~ Normal(0, g²)            g = content_scale, may be infinite (flat content)
    latent    z_j  ~ Normal(c, s²)            s = style_scale, j = 1..J

Every function takes latents `z` of shape `(..., N, J, D)` with the views at dim -2, `style_scale` as a
number or a tensor that broadcasts to `(D,)`, and `content_scale` as a number or a scalar tensor.

Under flat content, p(c) = 1, so densities of a group are improper (they are densities of its contrasts);
posterior and predictive are proper.

Source: Bizeul, Schölkopf and Allen 2024 (arXiv:2402.01399), equations 7-8, with the normalizers kept.
"""

import math

import torch
from pyro import distributions as dist
from torch import Tensor

from pyro_simvae.distributions import LOG_2PI, Gaussian

Scale = float | Tensor


def is_flat(content_scale: Scale) -> bool:
    """Whether the content prior is flat. A learned scale is a tensor and always finite."""
    return not isinstance(content_scale, Tensor) and math.isinf(content_scale)


def content_posterior(
    z: Tensor, style_scale: Scale, content_scale: Scale, present: Tensor | None = None
) -> dist.TorchDistribution:
    """q*(c | z_1..J) = Normal(v Σ_j z_j / s², v) with 1/v = 1/g² + J/s².

    present: which views are there, `(..., N, J)` bool; sum and J are over those. None: all.

    Returns: a distribution with batch shape `(..., N, 1)` and event shape `(D,)`.
    """
    style = torch.as_tensor(style_scale, dtype=z.dtype, device=z.device)
    count: Tensor | int = z.shape[-2]
    if present is not None:
        z, count = z.masked_fill(~present.unsqueeze(-1), 0), present.sum(-1)[..., None, None]
    weight = count + (style / content_scale) ** 2  # s² / v: the prior weighs as much as s² / g² views
    return Gaussian(z.sum(-2, keepdim=True) / weight, style * weight.rsqrt())


def group_evidence(z: Tensor, style_scale: Scale, content_scale: Scale) -> Tensor:
    """log p(z_1..J) = log ∫ p(c) Π_j p(z_j | c) dc, in nats, summed over dimensions.

        -½ [(J-1) log s² + log(s² + J g²) + J log 2π] - Σ_j (z_j - z̄)² / 2s² - J z̄² / 2(s² + J g²)

    and, with flat content,

        -½ [(J-1) log s² + log J + (J-1) log 2π] - Σ_j (z_j - z̄)² / 2s²

    Returns: `(..., N)`.
    """
    num_views = z.shape[-2]
    style = torch.as_tensor(style_scale, dtype=z.dtype, device=z.device).expand(z.shape[-1])
    mean = z.mean(-2)
    spread = (z - mean.unsqueeze(-2)).square().sum(-2)
    evidence = -spread / (2 * style**2) - (num_views - 1) * (style.log() + LOG_2PI / 2)
    if is_flat(content_scale):
        return (evidence - math.log(num_views) / 2).sum(-1)
    total = style**2 + num_views * content_scale**2
    return (evidence - num_views * mean**2 / (2 * total) - (total.log() + LOG_2PI) / 2).sum(-1)


def predictive(z: Tensor, style_scale: Scale, content_scale: Scale) -> dist.TorchDistribution:
    """p(z' | z_1..J): where another view of the same group lies, Normal(m, v + s²) with m, v of q*(c | z).

    For J = 1 it is the predictive kernel Normal(g²/(g²+s²) z, s² + g²s²/(g²+s²)); flat, Normal(z, 2s²).

    Returns: a distribution with batch shape `(..., N, 1)` and event shape `(D,)`.
    """
    content = content_posterior(z, style_scale, content_scale)
    style = torch.as_tensor(style_scale, dtype=z.dtype, device=z.device)
    scale = (content.variance + style**2).sqrt()
    return Gaussian(content.mean, scale)
