"""SwAV against lightly, DeepCluster against the equations of the paper, value and gradient."""

import math

import pytest
import torch
from lightly.loss import SwaVLoss
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.limits.assignment import k_means
from pyro_simvae.limits.given import Given

SIZES = [(2, 3, 2), (7, 2, 5), (16, 16, 40)]


def cosines(limit, z):
    return F.normalize(z, dim=-1) @ F.normalize(limit.prototypes, dim=-1).mT


@pytest.mark.parametrize(("num_groups", "dim", "num_prototypes"), SIZES)
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("settings", [(0.1, 0.05, 3), (0.5, 0.2, 1)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_swav_is_lightlys(
    assert_same, representations, num_groups, dim, num_prototypes, num_views, settings, collapsed
):
    temperature, epsilon, iterations = settings
    z = representations(num_groups, num_views, dim, collapsed)
    limit = limits.swav(num_prototypes, temperature, epsilon, iterations)
    loss = limit.loss(z).total
    scores = cosines(limit, z)
    reference = SwaVLoss(temperature, iterations, epsilon)(list(scores.unbind(1)), []).squeeze()
    expected = torch.autograd.grad(reference, limit.prototypes, retain_graph=True)
    found = torch.autograd.grad(loss, limit.prototypes, retain_graph=True)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)
    assert_same(loss, reference, z)


def test_swavs_defaults_are_lightlys(assert_same, representations):
    z = representations(16, 2, 8)
    limit = limits.swav()
    loss = limit.loss(z).total
    assert_same(loss, SwaVLoss()(list(cosines(limit, z).unbind(1)), []).squeeze(), z)


def test_swavs_terms_are_those_of_the_literature(representations):
    z = representations(8, 2, 4)
    limit = limits.swav(5)
    terms = limit.loss(z)
    torch.testing.assert_close(terms["entropy"], (cosines(limit, z) / 0.1).logsumexp(-1).mean())


def deepcluster(limit, z, centroids):
    """Caron et al. 2018, equation 2 for the assignments and equation 1 for the loss, with g_W(z) = z·c / τ.

    Equation 2 is over the views of a group together, which share their cluster.
    """
    z, centroids = F.normalize(z, dim=-1), F.normalize(centroids, dim=-1)
    losses = []
    for group in z:
        distance = torch.stack([(group - centroid).square().sum() for centroid in centroids])
        label = distance.argmin()
        for view in group:
            scores = torch.exp(centroids @ view / limit.temperature)
            losses.append(-torch.log(scores[label] / scores.sum()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("num_groups", "dim", "num_prototypes"), [(1, 3, 2), (7, 2, 5), (16, 16, 40)])
@pytest.mark.parametrize("num_views", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("collapsed", [False, True])
def test_deepcluster_is_equation_1(
    assert_same, representations, num_groups, dim, num_prototypes, num_views, temperature, collapsed
):
    z = representations(num_groups, num_views, dim, collapsed)
    limit = limits.deepcluster(num_prototypes, temperature, memory_size=64)
    loss = limit.loss(z).total
    assert_same(loss, deepcluster(limit, z, limit.prototypes), z)


def test_deepcluster_clusters_once_the_memory_is_renewed(representations):
    limit = limits.deepcluster(4, memory_size=16, num_iterations=5)
    batches = [F.normalize(representations(3, 2, 3).detach(), dim=-1) for _ in range(3)]
    loss = limit.loss(batches[0]).total
    assert not loss.requires_grad  # the centroids are no parameters
    start = limit.prototypes.clone()
    for batch in batches[:2]:
        limit.update(batch, Given())
        torch.testing.assert_close(limit.prototypes, start)
    limit.update(batches[2], Given())
    latest = torch.cat(batches).flatten(0, 1)[-16:]
    torch.testing.assert_close(limit.prototypes, k_means(latest, start, 5))


def test_backward_after_the_centroids_have_moved(representations):
    z = representations(4, 2, 3)
    limit = limits.deepcluster(4, memory_size=8)
    loss = limit.loss(z).total
    expected = torch.autograd.grad(loss, z, retain_graph=True)[0]
    before = limit.prototypes
    limit.update(F.normalize(z.detach(), dim=-1), Given())
    assert not torch.equal(limit.prototypes, before)
    torch.testing.assert_close(torch.autograd.grad(loss, z)[0], expected)


@pytest.mark.parametrize("make", [lambda: limits.swav(4), lambda: limits.deepcluster(4, memory_size=8)])
def test_collapsed_latents_have_finite_slopes(make):
    z = torch.ones(4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.grad(make().loss(z).total, z)[0].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: limits.swav(1), "num_prototypes is 1: give a whole number, 2 or more"),
        (lambda: limits.swav(temperature=0.0), "temperature is 0.0"),
        (lambda: limits.swav(epsilon=math.inf), "epsilon is inf"),
        (lambda: limits.swav(num_iterations=0), "num_iterations is 0"),
        (lambda: limits.deepcluster(10, memory_size=9), "a memory of 9 has fewer representations than the 10 clusters"),
        (lambda: limits.deepcluster(memory_size=0), "memory_size is 0"),
        (lambda: limits.deepcluster(num_iterations=0), "num_iterations is 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_swav_compares_groups(representations):
    with pytest.raises(InputError, match="SwAV compares groups"):
        limits.swav(4).loss(representations(1, 2, 3))
