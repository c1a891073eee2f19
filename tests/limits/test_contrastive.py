"""Contrastive limits against lightly and against the equations of the papers, value and gradient."""

import math

import pytest
import torch
from lightly.loss import DCLLoss, NTXentLoss
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError

SIZES = [(2, 3), (7, 2), (32, 16)]


@pytest.mark.parametrize(("num_groups", "dim"), SIZES)
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize(("limit", "reference"), [(limits.simclr, NTXentLoss), (limits.dcl, DCLLoss)])
def test_is_lightlys(assert_same, representations, limit, reference, num_groups, dim, temperature, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    assert_same(limit(temperature).loss(z).total, reference(temperature)(z[:, 0], z[:, 1]), z)


def infonce(z, temperature):
    """van den Oord et al. 2018, equation 4, with f(x, c) = exp(x·c/τ), each view in turn the context."""
    z = F.normalize(z, dim=-1)
    total = 0.0
    for i in range(len(z)):
        for j in range(2):
            scores = torch.stack([torch.exp(z[i, j] @ z[k, 1 - j] / temperature) for k in range(len(z))])
            total = total - torch.log(scores[i] / scores.sum())
    return total / (2 * len(z))


@pytest.mark.parametrize(("num_groups", "dim"), SIZES)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_infonce_is_equation_4(assert_same, representations, num_groups, dim, temperature):
    z = representations(num_groups, 2, dim)
    assert_same(limits.infonce(temperature).loss(z).total, infonce(z, temperature), z)


def test_more_views_average_over_pairs(assert_same, representations):
    z = representations(5, 3, 4)
    unit = F.normalize(z, dim=-1).reshape(15, 4)
    group = torch.arange(15) // 3
    logits = (unit @ unit.T / 0.5).masked_fill(torch.eye(15, dtype=torch.bool), -math.inf)
    log_ratio = logits - logits.logsumexp(-1, keepdim=True)
    positive = (group[:, None] == group) & ~torch.eye(15, dtype=torch.bool)
    assert_same(limits.simclr(0.5).loss(z).total, -log_ratio[positive].mean(), z)


def test_terms_are_those_of_the_literature(representations):
    z = representations(6, 2, 4)
    terms = limits.simclr(0.5).loss(z)
    unit = F.normalize(z, dim=-1)
    torch.testing.assert_close(terms["agreement"], -(unit[:, 0] * unit[:, 1]).sum(-1).mean() / 0.5)
    torch.testing.assert_close(terms.total, terms["agreement"] + terms["entropy"])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match="temperature is"):
        limits.simclr(temperature)


def test_mutual_information_is_bounded_and_averages_the_pointwise(representations):
    z = representations(16, 2, 4)
    limit = limits.infonce(0.2)
    from pyro_simvae.limits.latents import GaussianLatents

    found = limit.mutual_information(z, GaussianLatents(math.sqrt(0.1)))
    torch.testing.assert_close(found.bound, math.log(16) - limit.loss(z).total)
    torch.testing.assert_close(found.pointwise.mean(), found.bound)
    assert found.bound <= math.log(16)


def euclidean_infonce(z, temperature):
    """InfoNCE with the similarity -|z - z'|²/2 of von Kügelgen et al. 2021, each view in turn the anchor."""
    total = 0.0
    for i in range(len(z)):
        for j in range(2):
            scores = torch.stack(
                [torch.exp(-(z[i, j] - z[k, 1 - j]).square().sum() / (2 * temperature)) for k in range(len(z))]
            )
            total = total - torch.log(scores[i] / scores.sum())
    return total / (2 * len(z))


@pytest.mark.parametrize(("num_groups", "dim"), SIZES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("collapsed", [False, True])
def test_euclidean_infonce_is_the_equation(assert_same, representations, num_groups, dim, temperature, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    limit = limits.infonce(temperature, geometry="euclidean")
    assert_same(limit.loss(z).total, euclidean_infonce(z, temperature), z)


@pytest.mark.parametrize("limit", [limits.infonce, limits.simclr, limits.dcl])
def test_geometries_agree_on_unit_vectors_and_only_there(representations, limit):
    z = representations(6, 2, 4)
    unit = F.normalize(z, dim=-1)
    on_sphere, as_it_is = limit(0.5), limit(0.5, geometry="euclidean")
    torch.testing.assert_close(as_it_is.loss(unit).total, on_sphere.loss(unit).total)
    assert not torch.isclose(as_it_is.loss(z).total, on_sphere.loss(z).total)


def test_geometry_must_be_known():
    with pytest.raises(InputError, match="unknown geometry 'euclid': did you mean euclidean"):
        limits.infonce(geometry="euclid")
