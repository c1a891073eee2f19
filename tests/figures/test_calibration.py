"""Figures of calibration: uniform ranks stay in the band and on the diagonal, those of a narrow guide do not."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import binom

from pyro_simvae.figures.calibration import coverage_curves, rank_histograms
from pyro_simvae.figures.canvas import ORANGE
from pyro_simvae.inspection.calibration import Calibration

N, L = 400, 99


def calibration(**ranks):
    return Calibration(ranks, L, dict.fromkeys(ranks, 0.5), {}, {})


@pytest.fixture
def uniform():
    """Every rank four times, in an order for each of three dimensions."""
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(np.repeat(np.arange(L + 1), 4)) for _ in range(3)], axis=1)


def steps(axes):
    """The band, and the histograms by dimension."""
    band, *histograms = axes.patches
    return band.get_data(), [patch.get_data().values for patch in histograms]


def test_uniform_ranks_are_flat(uniform):
    (axes,) = rank_histograms(calibration(content=uniform)).axes
    band, histograms = steps(axes)
    assert len(histograms) == 3
    np.testing.assert_allclose(histograms, 1)
    assert "p = 0.5" in axes.get_title(loc="left")
    # 20 bins of 20 expected ranks each, and 60 chances to leave the band.
    low, high = binom.interval(1 - 0.05 / 60, N, 1 / 20)
    np.testing.assert_allclose(band.values, high / 20)
    np.testing.assert_allclose(band.baseline, low / 20)


def test_uniform_draws_seldom_leave_the_band():
    generator, left = np.random.default_rng(1), 0
    for _ in range(60):
        (axes,) = rank_histograms(calibration(content=generator.integers(0, L + 1, (N, 2)))).axes
        band, histograms = steps(axes)
        left += any(((h > band.values + 1e-9) | (h < band.baseline - 1e-9)).any() for h in histograms)
    assert left <= 8  # of 60, where 3 are expected at most


def test_a_narrow_guide_leaves_the_band_and_is_drawn_in_orange(uniform):
    ranks = uniform.copy()
    ranks[:, 1] = np.where(ranks[:, 1] < 50, ranks[:, 1] // 5, L - (L - ranks[:, 1]) // 5)
    (axes,) = rank_histograms(calibration(content=ranks)).axes
    band, histograms = steps(axes)
    assert histograms[1][0] > band.values[0]
    assert histograms[1][10] < band.baseline[10]
    orange = [to_rgb(patch.get_edgecolor()) == to_rgb(ORANGE) for patch in axes.patches[1:]]
    assert orange == [False, True, False]


def test_of_each_group_one_view_is_looked_at(uniform):
    # Views that are not looked at have ranks of zero.
    ranks = np.zeros((N, 2, 3), dtype=int)
    ranks[np.arange(N), np.arange(N) % 2] = uniform
    _, histograms = steps(rank_histograms(calibration(z=ranks)).axes[0])
    np.testing.assert_allclose(histograms, 1)


def test_bins_of_unequal_width_and_few_groups():
    ranks = np.arange(12)[:, None] % 12
    found = Calibration({"content": ranks}, 11, {"content": 1.0}, {}, {})  # two bins
    _, histograms = steps(rank_histograms(found).axes[0])
    np.testing.assert_allclose(histograms, [[1, 1]])
    found = Calibration({"content": np.repeat(np.arange(7), 5)[:, None]}, 6, {"content": 1.0}, {}, {})
    np.testing.assert_allclose(steps(rank_histograms(found).axes[0])[1], 1)
    uneven = Calibration({"content": np.repeat(np.arange(7), 3)[:, None]}, 6, {"content": 1.0}, {}, {})  # 4 bins of 7
    np.testing.assert_allclose(steps(rank_histograms(uneven).axes[0])[1], 1)


def test_coverage_lies_on_the_diagonal_or_below(uniform):
    middle = uniform // 2 + 25  # within the central half
    ends = np.where(uniform < 50, 0, L)
    (axes,) = coverage_curves(calibration(content=uniform, wide=middle, narrow=ends)).axes
    diagonal, uniform_line, wide, narrow = axes.lines
    np.testing.assert_allclose(*uniform_line.get_data(), atol=1e-9)
    levels, share = wide.get_data()
    np.testing.assert_allclose(share[levels > 0.51], 1)
    np.testing.assert_allclose(narrow.get_ydata()[:-1], 0)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["calibrated", "content", "wide", "narrow"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
