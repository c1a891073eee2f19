"""What holds for every limit of the Gaussian family: its pair, its symmetries, and batches in several processes."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import distributions as dist

from pyro_simvae import limits
from pyro_simvae.distributions import Flat
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.limits.latents import GaussianLatents, TracedLatents
from pyro_simvae.models import SimVAE

FAMILY = {
    "barlow_twins": partial(limits.barlow_twins, 0.05),
    "koleo": partial(limits.koleo, 0.3),
    "logdet": partial(limits.logdet, 0.7, eps=1e-3),
    "pca": partial(limits.pca, 0.7),
    "vicreg": limits.vicreg,
    "wmse": limits.wmse,
    "wmse_euclidean": partial(limits.wmse, unit_length=False),
}
CONTENTS = ["joint", "leave-one-out", "pairwise"]


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("num_views", [2, 3])
def test_the_pair_has_the_loss_and_its_gradient(pair, name, content, num_views):
    model, guide = pair(style_scale=0.8)
    limit = FAMILY[name](content=content)
    x = torch.randn(9, num_views, 5, dtype=torch.float64)
    limit_model, limit_guide = limit(model, guide)
    model.likelihood.decoder.register_forward_pre_hook(lambda *_: pytest.fail("the decoder was run"))
    objective = LedgerELBO(limit_model, limit_guide)(x).objective
    z = guide.latent(x).mean
    loss = limit.loss(z).total
    constant = sum(limit.constants(9, num_views, z.shape[-1]).values())
    torch.testing.assert_close(constant - objective / (9 * num_views), loss, rtol=1e-7, atol=1e-10)
    weights = list(guide.encoder.parameters())
    ours, theirs = (
        torch.autograd.grad(total, weights, allow_unused=True) for total in (-objective / (9 * num_views), loss)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", FAMILY)
def test_mixed_precision_leaves_the_moments_alone(name):
    limit, z = FAMILY[name](), torch.randn(12, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = limit.loss(z).total
    torch.testing.assert_close(loss, limit.loss(z).total)


class StudentT(SimVAE):
    """A story with heavy-tailed style."""

    degrees = torch.tensor(3.0)

    def content(self, num_views):
        return Flat(self.latent_dim)

    def latent(self, content):
        return dist.StudentT(self.degrees, content, self.style_scale).to_event(1)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
@pytest.mark.parametrize("degrees", [3.0, 1e7])
def test_an_edited_story_edits_the_agreement(pair, name, degrees):
    model, _ = pair(StudentT, style_scale=0.5)
    model.degrees = torch.tensor(degrees, dtype=torch.float64)
    limit = FAMILY[name]()
    z = limit.geometry(torch.randn(6, 2, 4, dtype=torch.float64))
    traced = TracedLatents(model, num_nodes=256)
    edited, default = (
        limit.agreement(z, latents, None)["agreement"] for latents in (traced, GaussianLatents(model.style_scale))
    )
    assert torch.allclose(edited, default, rtol=1e-4) == (degrees > 1e6)


def drawn(seed, num_groups, num_views, dim):
    return torch.randn(num_groups, num_views, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


batches = st.builds(drawn, st.integers(0, 2**31), st.integers(6, 10), st.integers(2, 4), st.integers(2, 4))


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=15, deadline=None)
@given(z=batches, seed=st.integers(0, 2**31), offset=st.floats(-5, 5))
def test_permuting_groups_or_views_changes_nothing(name, z, seed, offset):
    limit = FAMILY[name]()
    loss = limit.loss(z).total
    generator = torch.Generator().manual_seed(seed)
    groups, views = (torch.randperm(size, generator=generator) for size in z.shape[:2])
    torch.testing.assert_close(limit.loss(z[groups]).total, loss, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(limit.loss(z[:, views]).total, loss, rtol=1e-8, atol=1e-8)
    if name != "koleo":  # its sphere has a centre
        torch.testing.assert_close(limit.loss(z + offset).total, loss, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["koleo", "logdet", "pca"])
@settings(max_examples=15, deadline=None)
@given(z=batches, seed=st.integers(0, 2**31))
def test_rotations_change_nothing(name, z, seed):
    dim = z.shape[-1]
    square = torch.randn(dim, dim, dtype=z.dtype, generator=torch.Generator().manual_seed(seed))
    rotation, _ = torch.linalg.qr(square)
    limit = FAMILY[name]()
    same = limit.loss(z @ rotation).total
    torch.testing.assert_close(same, limit.loss(z).total, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["barlow_twins", "koleo", "wmse", "wmse_euclidean"])
@settings(max_examples=15, deadline=None)
@given(z=batches, scale=st.floats(0.1, 10))
def test_scale_is_no_matter_where_the_geometry_sets_it(name, z, scale):
    limit = FAMILY[name]()
    tolerance = 0.05 if name == "barlow_twins" else 1e-7  # its standardisation has an absolute ε
    torch.testing.assert_close(limit.loss(scale * z).total, limit.loss(z).total, rtol=tolerance, atol=tolerance)


@settings(max_examples=15, deadline=None)
@given(z=batches, scale=st.floats(0.1, 10))
def test_the_scale_of_linear_limits_is_that_of_the_temperature(z, scale):
    for limit in (limits.logdet, limits.pca):
        options = {"eps": 0.0} if limit is limits.logdet else {}
        scaled = limit(0.5 * scale**2, **options).loss(scale * z).total
        expected = limit(0.5, **options).loss(z).total - z.shape[-1] * math.log(scale)
        torch.testing.assert_close(scaled, expected, rtol=1e-8, atol=1e-8)
