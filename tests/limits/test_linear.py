"""The linear limit reaches its closed-form optimum, in value, gradient and subspace."""

import math

import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.conjugate import group_evidence
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import Linear

F64 = torch.float64
P, D = 6, 2


def views(num_groups=200, num_views=2, isotropic=False):
    """Groups whose means and views differ by fixed full covariances."""
    between, within = torch.randn(P, P, dtype=F64), torch.randn(P, P, dtype=F64)
    style = torch.randn(num_groups, num_views, P, dtype=F64)
    style = 0.3 * (style if isotropic else style @ within)
    return torch.randn(num_groups, 1, P, dtype=F64) @ between + style + 2.0


def objective(weight, bias, x, style_scale, content_scale):
    """E log p(z_1..J) / J + ½ log det 2πe(W Σ Wᵀ), per view."""
    z = x @ weight.T + bias
    cov = torch.cov(z.flatten(0, 1).T, correction=0)
    entropy = torch.logdet(2 * math.pi * math.e * cov) / 2
    return group_evidence(z, style_scale, content_scale).mean() / x.shape[1] + entropy


@pytest.mark.parametrize("content_scale", [math.inf, 1.5])
@pytest.mark.parametrize("num_views", [2, 3])
def test_the_gradient_vanishes_at_the_optimum_and_lbfgs_finds_no_better(content_scale, num_views):
    x, style = views(num_views=num_views), 0.6
    best = limits.pca.optimum(x, D, style, content_scale)
    weight, bias = (value.clone().requires_grad_() for value in best)
    value = objective(weight, bias, x, style, content_scale)
    for gradient in torch.autograd.grad(value, (weight, bias)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)

    for _ in range(3):
        found = torch.randn(D, P, dtype=F64).requires_grad_()
        offset = torch.zeros(D, dtype=F64).requires_grad_()
        optimizer = torch.optim.LBFGS([found, offset], max_iter=500, line_search_fn="strong_wolfe", history_size=30)

        def closure(found=found, offset=offset, optimizer=optimizer):
            optimizer.zero_grad()
            loss = -objective(found, offset, x, style, content_scale)
            loss.backward()
            return loss

        optimizer.step(closure)
        torch.testing.assert_close(-closure(), value, rtol=1e-6, atol=1e-6)
        assert_same_span(found, weight, 1e-3)


def assert_same_span(left, right, tolerance):
    """The principal angles between two row spaces are zero."""
    (left, _), (right, _) = (torch.linalg.qr(weight.detach().T) for weight in (left, right))
    cosines = torch.linalg.svdvals(left.T @ right)
    torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=tolerance**2)


@pytest.mark.parametrize("content_scale", [math.inf, 0.7])
def test_isotropic_style_gives_the_principal_subspace(content_scale):
    x = views(20_000, isotropic=True)
    best = limits.pca.optimum(x, D, 0.5, content_scale)
    principal = torch.linalg.eigh(torch.cov(x.flatten(0, 1).T)).eigenvectors[:, -D:].T
    assert_same_span(best.weight, principal, 0.05)


def test_content_sets_the_scale_and_not_the_directions():
    x, style = views(), 0.6
    flat, finite = (limits.pca.optimum(x, D, style, scale) for scale in (math.inf, 1.5))
    assert_same_span(flat.weight, finite.weight, 1e-6)
    within = (x - x.mean(1, keepdim=True)).flatten(0, 1)
    spread = within @ flat.weight.T
    torch.testing.assert_close(spread.T @ spread / len(spread), style**2 * torch.eye(D, dtype=F64))
    z = (x @ finite.weight.T + finite.bias).flatten(0, 1)
    assert (z.var(0) < style**2 + 2 * 1.5**2).all()
    torch.testing.assert_close(z.mean(0), torch.zeros(D, dtype=F64), rtol=0, atol=1e-10)


def test_the_loss_is_the_objective_and_least_at_the_optimum():
    x = views(num_views=3)
    weight, bias = limits.pca.optimum(x, D, math.sqrt(0.2 / 2))
    weight.requires_grad_()
    limit = limits.pca(0.2)
    loss = limit.loss(x @ weight.T + bias).total
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], torch.zeros(D, P, dtype=F64), rtol=0, atol=1e-9)
    constant = sum(limit.constants(len(x), 3, D).values())
    torch.testing.assert_close(loss, constant - objective(weight, bias, x, math.sqrt(0.2 / 2), math.inf))


@pytest.mark.parametrize("content_scale", [math.inf, 1.5])
def test_the_gradient_through_the_program_vanishes_at_the_optimum(content_scale):
    x, style = views(), 0.6
    network = Linear()
    model = SimVAE(Normal(network.decoder((P,), D)), D, content_scale, style).double()
    guide = MeanField(model, network.encoder((P,), D)).double()
    head = guide.encoder.head
    best = limits.pca.optimum(x, D, float(model.style_scale), content_scale)
    head.weight.data[:D], head.bias.data[:D] = best
    objective = LedgerELBO(*limits.pca()(model, guide))(x).objective / len(x)
    for gradient in torch.autograd.grad(objective, (head.weight, head.bias)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)
    head.weight.data *= 1.01
    assert LedgerELBO(*limits.pca()(model, guide))(x).objective / len(x) < objective


def test_the_loss_is_its_formula(assert_same, representations):
    for collapsed in (False, True):
        z = representations(9, 3, 4, collapsed)
        spread = (z - z.mean(1, keepdim=True)).square().sum((1, 2)).mean() / 3
        reference = spread / 0.8 - torch.logdet(torch.cov(z.flatten(0, 1).T, correction=0)) / 2
        assert_same(limits.pca(0.8).loss(z).total, reference, z)


def test_bad_input():
    x = views(20)
    with pytest.raises(InputError, match="views have shape"):
        limits.pca.optimum(x[0], D, 1.0)
    for dim in (0, P + 1):
        with pytest.raises(InputError, match="latent_dim is"):
            limits.pca.optimum(x, dim, 1.0)
    with pytest.raises(InputError, match="style_scale is"):
        limits.pca.optimum(x, D, 0.0)
    with pytest.raises(InputError, match="content_scale is"):
        limits.pca.optimum(x, D, 1.0, -1.0)
    with pytest.raises(InputError, match="has no inverse"):
        limits.pca.optimum(x[:2], D, 1.0)
    with pytest.raises(InputError, match="coincide in some direction"):
        limits.pca.optimum(x[:, :1].expand(-1, 2, -1), D, 1.0)
    with pytest.raises(InputError, match="has no inverse"):
        limits.pca().loss(x[:1].expand(2, -1, -1)[:, :2].repeat(1, 1, 2))
    with pytest.raises(InputError, match="temperature is"):
        limits.pca(math.inf)
