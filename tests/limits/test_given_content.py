"""log p(z | c) and log p(z' | z) of a story, in closed form and traced, in the units of representations."""

import math

import pytest
import torch
from pyro import distributions as dist

from pyro_simvae.limits.latents import GaussianLatents, TracedLatents
from pyro_simvae.models import SimVAE


class HeavyTailed(SimVAE):
    def latent(self, content):
        return dist.StudentT(4.0, content, self.style_scale, validate_args=False).to_event(1)


@pytest.mark.parametrize("style_scale", [0.4, torch.tensor([0.2, 0.5, 1.5], dtype=torch.float64)])
@pytest.mark.parametrize("unit", [1.0, 0.3])
def test_given_content_is_the_style(style_scale, unit):
    z, content = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(5, 1, 3, dtype=torch.float64)
    expected = dist.Normal(content, torch.as_tensor(style_scale) / unit).log_prob(z).sum(-1)
    torch.testing.assert_close(GaussianLatents(style_scale, unit=unit).given_content(z, content), expected)


def test_content_kernel_is_given_content_of_all_pairs():
    z, content = torch.randn(6, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    latents = GaussianLatents(torch.tensor([0.2, 0.5, 1.5], dtype=torch.float64), unit=0.7)
    torch.testing.assert_close(latents.content_kernel(z, content), latents.given_content(z[:, None], content))


@pytest.mark.parametrize("story", [SimVAE, HeavyTailed])
@pytest.mark.parametrize("content_scale", [2.0, math.inf])
def test_traced_is_the_programs_own(pair, story, content_scale):
    model, _ = pair(story, content_scale=content_scale)
    z, content = torch.randn(5, 2, 4, dtype=torch.float64), torch.randn(5, 1, 4, dtype=torch.float64)
    latents = TracedLatents(model, unit=0.5)
    expected = model.latent(0.5 * content).log_prob(0.5 * z) + 4 * math.log(0.5)
    torch.testing.assert_close(latents.given_content(z, content), expected)
    pairs = latents.content_kernel(z[:, 0], content[:3, 0])
    torch.testing.assert_close(pairs, latents.given_content(z[:, :1], content[:3, 0]))


def test_predictive_is_the_kernel():
    z, given = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    latents = GaussianLatents(0.4, 2.0, unit=0.7)
    torch.testing.assert_close(latents.predictive(z, given), latents.kernel(z, given).diagonal())
