"""Health against closed forms, library values and its extremes."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import special, stats

from pyro_simvae.evaluation.health import (
    alignment,
    collapsed,
    health,
    moments,
    rankme,
    uniformity,
    variance_components,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gaussian(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def is_collapsed(z, scale=None):
    return collapsed(*moments(z), scale)


class TestRankMe:
    def test_by_hand(self):
        z = np.array([[3, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
        expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
        assert rankme(z) == pytest.approx(expected, abs=1e-5)

    def test_is_that_of_the_singular_values_not_centred(self, rng):
        z = gaussian(rng, 5000, 6) * [5, 3, 1, 0.3, 0.1, 0.01] + 2
        singular = np.linalg.svd(z, compute_uv=False)
        share = singular / singular.sum() + 1e-7
        assert rankme(z) == pytest.approx(math.exp(stats.entropy(share)), rel=1e-6)

    def test_isotropic_gaussian_has_all_dimensions(self, rng):
        assert 7.99 < rankme(gaussian(rng, 20_000, 8)) <= 8.001

    def test_fewer_items_than_dimensions(self):
        assert rankme(np.eye(3, 10, dtype=np.float32)) == pytest.approx(3, abs=1e-4)

    def test_one_direction_and_one_point_are_one(self, rng):
        assert rankme(gaussian(rng, 1000, 1) * np.ones((1, 8), dtype=np.float32)) == pytest.approx(1, abs=1e-4)
        assert rankme(np.full((1000, 8), 3.7, dtype=np.float32)) == pytest.approx(1, abs=1e-4)

    def test_zeros_have_none(self):
        assert rankme(np.zeros((10, 4), dtype=np.float32)) == 0

    def test_does_not_depend_on_units_or_rotation(self, rng):
        z = gaussian(rng, 500, 5) * [4, 2, 1, 1, 0.1]
        rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        assert rankme(100 * z @ rotation) == pytest.approx(rankme(z), rel=1e-9)


class TestActiveUnits:
    def test_count_variances_above_a_hundredth(self):
        signs = np.array([[-1], [1]], dtype=np.float32)
        scores = health(signs * np.sqrt([0, 0.009, 0.011, 4], dtype=np.float32) + 3, None, None, None)
        assert scores["active_units"] == 2
        assert scores["active_share"] == 0.5


class TestSphere:
    def test_alignment_of_known_angles(self):
        for angle in (0.0, 0.5, math.pi / 2, math.pi):
            views = np.array([[[5.0, 0.0], [math.cos(angle), math.sin(angle)]]], dtype=np.float32)
            assert alignment(views) == pytest.approx(2 - 2 * math.cos(angle), abs=1e-6)

    def test_alignment_is_the_mean_over_all_pairs_of_views(self, rng):
        views = gaussian(rng, 20, 3, 4)
        unit = views / np.linalg.norm(views, axis=-1, keepdims=True)
        pairs = [((unit[:, j] - unit[:, k]) ** 2).sum(-1).mean() for j, k in itertools.combinations(range(3), 2)]
        assert alignment(views) == pytest.approx(np.mean(pairs), rel=1e-6)

    def test_uniformity_of_one_point_and_of_opposite_points(self):
        assert uniformity(np.full((50, 3), 2.0, dtype=np.float32)) == pytest.approx(0, abs=1e-6)
        assert uniformity(np.array([[2.0, 0], [-5, 0]], dtype=np.float32)) == pytest.approx(-8, abs=1e-5)

    def test_uniformity_of_the_circle(self):
        angles = np.arange(3000) * 2 * math.pi / 3000
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        # The mean of exp(-2 (2 - 2 cos θ)) over θ is exp(-4) I₀(4).
        assert uniformity(circle) == pytest.approx(math.log(special.i0(4)) - 4, abs=2e-3)

    def test_uniformity_of_many_items_is_that_of_some(self, rng):
        z = gaussian(rng, 9000, 3)
        every = torch.pdist(torch.nn.functional.normalize(torch.from_numpy(z[::3]), dim=1))
        assert uniformity(z) == pytest.approx(float(every.square().mul(-2).exp().mean().log()), abs=0.02)


class TestVarianceComponents:
    def test_story_of_known_scales(self, rng):
        content, style = 2 * rng.normal(size=(20_000, 1, 3)), 0.5 * rng.normal(size=(20_000, 2, 3))
        between, within = variance_components((content + style).reshape(-1, 3), np.repeat(np.arange(20_000), 2))
        assert between == pytest.approx(3 * 4, rel=0.05)
        assert within == pytest.approx(3 * 0.25, rel=0.05)

    @pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 7, 5)])
    def test_agrees_with_the_analysis_of_variance(self, rng, sizes):
        groups = np.repeat(np.arange(3), sizes)
        z = gaussian(rng, len(groups), 1) + 2 * groups[:, None]
        between, within = variance_components(z, groups)
        size = (sum(sizes) - sum(n * n for n in sizes) / sum(sizes)) / 2
        f = stats.f_oneway(*(z[groups == index, 0] for index in range(3))).statistic
        assert f == pytest.approx(1 + size * between / within, rel=1e-6)

    def test_groups_at_random_have_nothing_between(self, rng):
        scores = health(gaussian(rng, 10, 4), gaussian(rng, 5000, 2, 4), None, None)
        assert scores["between_within"] < 0.03

    def test_many_items_are_summed_in_parts(self, rng):
        z, groups = gaussian(rng, 10_000, 2), np.arange(10_000) % 10
        within = np.mean([z[groups == index].var(axis=0, ddof=1).sum() for index in range(10)])
        assert variance_components(z, groups)[1] == pytest.approx(within, rel=1e-6)

    def test_without_variance_within_the_ratio_is_left_out(self, rng):
        z = gaussian(rng, 50, 1, 4)
        scores = health(z[:, 0], np.repeat(z, 2, axis=1), None, np.arange(50))
        assert scores["alignment"] == pytest.approx(0, abs=1e-12)
        assert "between_within" not in scores
        assert "between_within_classes" not in scores  # every item is a class of its own

    def test_one_class_has_nothing_between(self, rng):
        assert "between_within_classes" not in health(gaussian(rng, 50, 4), None, None, np.zeros(50, dtype=np.int64))

    def test_classes_apart(self, rng):
        labels = np.arange(300) % 3
        z = gaussian(rng, 300, 2) + 10 * labels[:, None]
        assert health(z, None, None, labels)["between_within_classes"] > 50
        assert health(z, None, None, rng.permutation(labels))["between_within_classes"] < 0.05


class TestPosteriorScale:
    def test_by_hand(self):
        z = np.array([[-3.0, -1], [3, 1]], dtype=np.float32)  # variances 9 and 1, their mean 5
        scores = health(z, None, np.array([[1.0, 2], [3, 4]], dtype=np.float32), None)
        assert scores["posterior_scale"] == 2.5
        assert scores["relative_posterior_scale"] == pytest.approx(2.5 / math.sqrt(5))

    def test_point_guide(self, rng):
        scores = health(gaussian(rng, 9, 2), None, np.zeros((9, 2), dtype=np.float32), None)
        assert scores["posterior_scale"] == scores["relative_posterior_scale"] == 0

    def test_locs_without_spread_have_no_relative_scale(self):
        scores = health(np.ones((9, 2), dtype=np.float32), None, np.ones((9, 2), dtype=np.float32), None)
        assert scores["posterior_scale"] == 1
        assert "relative_posterior_scale" not in scores


class TestCollapsed:
    def test_healthy(self, rng):
        z = gaussian(rng, 1000, 4)
        assert not is_collapsed(z)
        assert not is_collapsed(z, np.full_like(z, 0.5))
        assert not is_collapsed(z + 5)

    def test_one_point(self, rng):
        assert is_collapsed(np.full((100, 4), 3.3, dtype=np.float32))
        assert is_collapsed(np.zeros((100, 4), dtype=np.float32))
        assert is_collapsed(3 + 0.1 * gaussian(rng, 1000, 4))

    def test_posterior_is_the_prior(self, rng):
        z = 0.05 * gaussian(rng, 1000, 4)
        assert is_collapsed(z, np.ones_like(z))
        assert not is_collapsed(z)  # without the posterior, units are arbitrary

    def test_one_direction(self, rng):
        z = gaussian(rng, 1000, 4)
        assert is_collapsed(z * [1, 0.01, 0.01, 0.01])
        assert not is_collapsed(z * [1, 0.2, 0.2, 0.2])

    def test_one_dimension_cannot_be_fewer(self, rng):
        assert not is_collapsed(gaussian(rng, 1000, 1))


def test_what_is_not_given_is_not_scored(rng):
    z = gaussian(rng, 30, 3)
    alone = {"rankme", "active_units", "active_share", "uniformity", "collapsed"}
    assert set(health(z, None, None, None)) == set(health(z, z[:, None], None, None)) == alone
    with_all = health(z, gaussian(rng, 20, 3, 3), np.ones_like(z), np.arange(30) % 3)
    assert set(with_all) - alone == {
        "alignment",
        "between_within",
        "posterior_scale",
        "relative_posterior_scale",
        "between_within_classes",
    }
    assert all(type(value) is float for value in with_all.values())


def test_needs_less_than_a_copy_of_the_representation(rng):
    z, labels = gaussian(rng, 60_000, 256), np.arange(60_000) % 10
    tracemalloc.start()
    try:
        for measure in (moments, rankme, lambda z: variance_components(z, labels)):
            measure(z)
        assert tracemalloc.get_traced_memory()[1] < z.nbytes
    finally:
        tracemalloc.stop()
