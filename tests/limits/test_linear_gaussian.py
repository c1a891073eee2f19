"""Reconstruction becomes entropy: E_q[log p(x | z) - log q(z | x)] for a linear decoder, at every noise level.

The decoder is x = A z + σ ε with A invertible, so the encoder that inverts it is f(x) = A⁻¹ x. For the full-covariance
guide q(z | x) = Normal(f(x), σ² (AᵀA)⁻¹), which is the likelihood read as a density of z,

    log q(z | x) = log p(x | z) + log |det A|      for every z, x and σ,

so that the left side is -log |det A| = log |det ∂f/∂x| without an expectation, a limit or a constant: what turns H[x]
into H[z]. Any other guide loses KL(q' ‖ q). The best mean-field one has variances σ² / (AᵀA)_dd and loses
½ log [Π_d (AᵀA)_dd / det AᵀA], whatever σ: nothing exactly where the columns of A are orthogonal (Hadamard).
"""

import math

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import distributions as dist
from pyro.nn import PyroModule

from pyro_simvae.guides.conjugate import ConjugateContent
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian
from pyro_simvae.networks import Linear

D = 4
NOISES = [1.0, 1e-1, 1e-2, 1e-3, 1e-4]


def decoder_matrix(orthogonal=False):
    square = torch.randn(D, D, dtype=torch.float64)
    return torch.linalg.qr(square)[0] * torch.tensor([0.5, 1.0, 2.0, 3.0]).double() if orthogonal else square


def story(matrix, noise):
    model = LinearGaussian(Normal(Linear().decoder((D,), D), scale=noise), D).double()
    linear = model.likelihood.decoder.linear
    linear.weight.data, linear.bias.data = matrix, torch.zeros(D, dtype=torch.float64)
    model.likelihood.log_scale.fill_(math.log(noise))
    return model


class Inverse(PyroModule):
    """q(z | x) around A⁻¹ x, with a full covariance or the best diagonal one."""

    def __init__(self, model, full):
        super().__init__()
        self.content = ConjugateContent(model)
        self.matrix = model.likelihood.decoder.linear.weight.detach()
        self.noise = model.likelihood.log_scale.exp()
        self.full = full

    def latent(self, x):
        inverse = torch.linalg.inv(self.matrix)
        if self.full:
            return dist.MultivariateNormal(x @ inverse.T, scale_tril=lower(self.noise * inverse))
        scale = self.noise / self.matrix.square().sum(0).sqrt()
        return dist.Normal(x @ inverse.T, scale).to_event(1)

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2):
            with pyro.plate("views", x.shape[1], dim=-1):
                z = pyro.sample("z", self.latent(x))
            pyro.sample("content", self.content(z))


def lower(factor):
    """The Cholesky factor of `factor factorᵀ`."""
    upper = torch.linalg.qr(factor.T).R
    return (upper * upper.diagonal().sign().unsqueeze(-1)).T


def reconstruction(model, guide, x):
    """One sample of E[log p(x | z) - log q(z | x)] a view, through the programs."""
    terms = LedgerELBO(model, guide)(x).terms
    return (terms["log_p/x"] - terms["log_q/z"]) / (x.shape[0] * x.shape[1])


def gap(matrix):
    """½ log [Π_d (AᵀA)_dd / det AᵀA]."""
    return matrix.square().sum(0).log().sum() / 2 - torch.linalg.slogdet(matrix).logabsdet


@pytest.mark.parametrize("noise", NOISES)
def test_full_covariance_gives_the_jacobian_of_the_encoder_at_every_noise(noise):
    matrix = decoder_matrix()
    model = story(matrix, noise)
    x = 3 * torch.randn(5, 2, D, dtype=torch.float64)
    jacobian = torch.linalg.slogdet(torch.linalg.inv(matrix)).logabsdet
    # A single draw: the difference has no variance. What rounding leaves is that of x / σ.
    torch.testing.assert_close(reconstruction(model, Inverse(model, True), x), jacobian, rtol=0, atol=1e-9 / noise)


@pytest.mark.parametrize("noise", NOISES)
def test_mean_field_is_below_by_a_gap_that_does_not_depend_on_the_noise(noise):
    matrix = decoder_matrix()
    model = story(matrix, noise)
    x = torch.randn(4000, 2, D, dtype=torch.float64)
    expected = -torch.linalg.slogdet(matrix).logabsdet - gap(matrix)
    assert gap(matrix) > 0.1
    torch.testing.assert_close(reconstruction(model, Inverse(model, False), x), expected, rtol=0, atol=0.1)
    full, mean_field = (Inverse(model, kind).latent(x[:1, 0]) for kind in (True, False))
    diagonal = dist.MultivariateNormal(mean_field.mean, mean_field.variance.diag_embed())
    divergence = torch.distributions.kl_divergence(diagonal, full)
    torch.testing.assert_close(divergence, gap(matrix).expand(1), rtol=1e-6, atol=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), noise=st.sampled_from(NOISES))
def test_no_mean_field_guide_is_better(seed, noise):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(D, D, dtype=torch.float64, generator=generator)
    model = story(matrix, noise)
    full = Inverse(model, True).latent(torch.zeros(1, D, dtype=torch.float64))
    scale = noise * torch.rand(1, D, dtype=torch.float64, generator=generator).exp()
    other = dist.MultivariateNormal(
        noise * torch.randn(1, D, generator=generator).double(), scale.square().diag_embed()
    )
    assert torch.distributions.kl_divergence(other, full) >= gap(matrix) - 1e-9


def test_orthogonal_columns_leave_no_gap():
    matrix = decoder_matrix(orthogonal=True)
    model = story(matrix, 1e-2)
    x = torch.randn(5, 2, D, dtype=torch.float64)
    torch.testing.assert_close(gap(matrix), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)
    expected = -torch.linalg.slogdet(matrix).logabsdet
    torch.testing.assert_close(reconstruction(model, Inverse(model, False), x), expected, rtol=0, atol=1e-8)


def test_it_turns_the_entropy_of_views_into_that_of_latents():
    """H[z] = H[x] + E log |det ∂f/∂x| for Gaussian x and z = f(x)."""
    matrix, factor = decoder_matrix(), decoder_matrix().tril(-1) + torch.eye(D, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    origin = torch.zeros(D, dtype=torch.float64)
    views = dist.MultivariateNormal(origin, scale_tril=factor)
    latents = dist.MultivariateNormal(origin, scale_tril=lower(inverse @ factor))
    jacobian = torch.linalg.slogdet(inverse).logabsdet
    torch.testing.assert_close(latents.entropy(), views.entropy() + jacobian)
