"""Sinkhorn codes against lightly's, and k-means against its own optimality."""

import pytest
import torch
from lightly.loss.swav_loss import sinkhorn as lightlys_sinkhorn
from torch.nn import functional as F

from pyro_simvae.limits.assignment import k_means, sinkhorn


@pytest.mark.parametrize(("size", "num_clusters"), [(1, 2), (5, 3), (8, 20)])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_sinkhorn_is_lightlys(size, num_clusters, iterations, epsilon):
    scores = torch.rand(size, num_clusters, dtype=torch.float64) * 2 - 1
    expected = lightlys_sinkhorn(scores, iterations, epsilon)
    torch.testing.assert_close(sinkhorn(scores / epsilon, iterations), expected, rtol=1e-10, atol=1e-14)


def test_sinkhorn_balances_each_view_apart():
    scores = torch.randn(12, 2, 4, dtype=torch.float64)
    codes = sinkhorn(scores, 200)
    torch.testing.assert_close(codes.sum(-1), torch.ones(12, 2, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(0), torch.full((2, 4), 3.0, dtype=torch.float64))
    torch.testing.assert_close(codes[:, 1], sinkhorn(scores[:, 1], 200))


def test_sinkhorn_bears_scores_that_overflow_exponentials():
    assert sinkhorn(torch.tensor([[1e4, 0.0], [0.0, 1e4]]), 3).isfinite().all()


def test_k_means_finds_separate_clusters_and_stays_there():
    directions = torch.eye(3, dtype=torch.float64)
    z = F.normalize(directions.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 3, dtype=torch.float64), dim=-1)
    start = F.normalize(directions + 0.5 * torch.rand(3, 3, dtype=torch.float64), dim=-1)
    found = k_means(z, start, 10)
    torch.testing.assert_close(found, F.normalize(z.unflatten(0, (3, 20)).sum(1), dim=-1))
    torch.testing.assert_close(k_means(z, found, 1), found)


def test_k_means_fills_empty_clusters():
    z = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.1], [0.0, -1.0]]), dim=-1)
    start = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.01, 1.0]]), dim=-1)
    found = k_means(z, start, 10)
    assert (z @ found.mT).argmax(-1).unique().numel() == 3


def test_k_means_does_not_fit_worse():
    z, start = (F.normalize(torch.randn(*shape, 5), dim=-1) for shape in [(200,), (10,)])
    fits = [(z @ k_means(z, start, n).mT).amax(-1).mean() for n in (0, 1, 5, 20)]
    assert fits == sorted(fits)
