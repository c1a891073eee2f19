"""The densities of a story's latents: closed form, traced, and brute force."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from scipy import integrate, stats
from torch.distributions import MultivariateNormal

from pyro_simvae.checks import plate_sizes
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Normal
from pyro_simvae.limits.latents import GaussianLatents, TracedLatents, is_gaussian, others
from pyro_simvae.models import VAE, Hierarchical, SimVAE
from pyro_simvae.networks import MLP


class StudentStyle(SimVAE):
    """A heavy-tailed style: the only line that differs from the default story."""

    df = 3.0

    def latent(self, content):
        return dist.StudentT(self.df, content, self.style_scale, validate_args=False).to_event(1)


class CauchyStyle(StudentStyle):
    df = 1.0


def z_of(*shape):
    return torch.randn(shape, dtype=torch.float64)


def joint_normal(z, style, content):
    """log p(z_1..J) by the covariance matrix of the views, one dimension at a time."""
    num_views = z.shape[-2]
    covariance = style**2 * torch.eye(num_views, dtype=z.dtype) + content**2
    return MultivariateNormal(torch.zeros(num_views, dtype=z.dtype), covariance).log_prob(z.mT).sum(-1)


@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_gaussian_predictions_are_ratios_of_joint_normals(num_views):
    z, style, content = z_of(4, num_views, 3), 0.6, 1.3
    latents = GaussianLatents(style, content)
    joint = joint_normal(z, style, content)
    loo = torch.stack(
        [joint - joint_normal(z[:, [k for k in range(num_views) if k != j]], style, content) for j in range(num_views)],
        -1,
    )
    torch.testing.assert_close(latents.leave_one_out(z), loo)
    pairwise = torch.zeros(4, num_views, dtype=z.dtype)
    for j in range(num_views):
        for k in set(range(num_views)) - {j}:
            ratio = joint_normal(z[:, [j, k]], style, content) - joint_normal(z[:, [k]], style, content)
            pairwise[:, j] += ratio / (num_views - 1)
    torch.testing.assert_close(latents.pairwise(z), pairwise)


@pytest.mark.parametrize("content", [0.7, math.inf])
@pytest.mark.parametrize("style", [0.5, torch.tensor([0.3, 0.8, 1.2], dtype=torch.float64)])
def test_kernel_is_the_matrix_form_of_the_pairs(content, style):
    z, given = z_of(6, 3).requires_grad_(), z_of(4, 3).requires_grad_()
    latents = GaussianLatents(style, content, unit=1.7)
    fast, slow = latents.kernel(z, given), super(GaussianLatents, latents).kernel(z, given)
    torch.testing.assert_close(fast, slow)
    weights = z_of(6, 4)
    for a, b in zip(
        torch.autograd.grad((fast * weights).sum(), (z, given)),
        torch.autograd.grad((slow * weights).sum(), (z, given)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_unit_changes_the_variable_of_the_density():
    z = z_of(4, 2, 3)
    scaled = GaussianLatents(0.4, 1.0, unit=2.5)
    same = GaussianLatents(0.4 / 2.5, 1.0 / 2.5)
    torch.testing.assert_close(scaled.evidence(z), same.evidence(z))
    torch.testing.assert_close(scaled.kernel(z[0], z[1]), same.kernel(z[0], z[1]))


@pytest.mark.parametrize("content_scale", [1.0, math.inf])
@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_traced_gaussian_story_has_its_closed_form(pair, content_scale, num_views):
    model, _ = pair(content_scale=content_scale)
    z = (2 * z_of(5, num_views, 4)).requires_grad_()
    traced, closed = TracedLatents(model), GaussianLatents(model.style_scale, content_scale)
    torch.testing.assert_close(traced.evidence(z), closed.evidence(z), rtol=1e-5, atol=1e-5)
    (found,) = torch.autograd.grad(traced.evidence(z).sum(), z)
    (expected,) = torch.autograd.grad(closed.evidence(z).sum(), z, allow_unused=True)
    expected = torch.zeros_like(z) if expected is None else expected
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("content_scale", [1.0, math.inf])
def test_heavy_tailed_kernel_is_the_naive_integral(pair, content_scale):
    model, _ = pair(StudentStyle, content_scale=content_scale, style_scale=0.5)
    z, given = [-0.3, 1.1], [0.2, -2.0]

    def student(value, content):
        return stats.t.pdf(value, 3.0, content, 0.5)

    def prior(content):
        return 1.0 if math.isinf(content_scale) else stats.norm.pdf(content, 0, content_scale)

    for first, second in zip(z, given, strict=True):
        both, _ = integrate.quad(
            lambda c, a=first, b=second: prior(c) * student(a, c) * student(b, c), -math.inf, math.inf
        )
        one, _ = integrate.quad(lambda c, b=second: prior(c) * student(b, c), -math.inf, math.inf)
        row, column = torch.full((1, 4), first).double(), torch.full((1, 4), second).double()
        found = TracedLatents(model).kernel(row, column)
        assert found.item() == pytest.approx(4 * math.log(both / one), rel=1e-5)


def test_cauchy_style_has_a_cauchy_kernel_of_twice_the_scale(pair):
    model, _ = pair(CauchyStyle, content_scale=math.inf, style_scale=0.5)
    z, given = z_of(5, 4), z_of(3, 4)
    expected = dist.Cauchy(given, 1.0).to_event(1).log_prob(z[:, None])
    torch.testing.assert_close(TracedLatents(model).kernel(z, given), expected, rtol=1e-7, atol=1e-7)


def test_others_leaves_out_each_view_in_turn():
    z = torch.arange(3.0)[None, :, None]
    assert others(z).squeeze().tolist() == [[1, 2], [0, 2], [0, 1]]


def test_story_without_content_supports_no_limit(pair):
    model, _ = pair(VAE)
    with pytest.raises(InputError, match="no site 'content'"):
        is_gaussian(model)


def test_story_with_dependent_dimensions_is_refused(pair):
    class Correlated(SimVAE):
        def latent(self, content):
            return dist.MultivariateNormal(content, 0.1 * torch.eye(4).to(content))

    model, _ = pair(Correlated)
    with pytest.raises(InputError, match="dimensions may depend on each other"):
        is_gaussian(model)


class Part(SimVAE):
    """Content of a single dimension, for all dimensions of z."""

    def forward(self, x=None, num_groups=1, num_views=2):
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(content, torch.ones(self.latent_dim)).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)


@pytest.mark.parametrize(
    ("story", "text"),
    [
        (lambda likelihood: Hierarchical(likelihood, 3), "has the latent site 'label', which a limit"),
        (lambda likelihood: Part(likelihood, 3), "share a part of their latents only"),
    ],
)
def test_stories_that_no_limit_can_read_are_refused(story, text):
    model = story(Normal(MLP([4]).decoder((5,), 3)))
    with pytest.raises(InputError, match=text):
        is_gaussian(model)
