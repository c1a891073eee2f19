"""Statistics of images that are known, and p-values under the distribution that the views are from."""

import numpy as np
import pytest
from scipy import stats

from pyro_simvae.errors import InputError
from pyro_simvae.inspection.predictive_checks import STATISTICS, check, statistics_for

GENERATOR = np.random.default_rng(0)
CONSTANT = np.full((2, 3, 1, 4, 4), 0.25)
HALVES = np.concatenate([np.zeros((1, 2, 1, 4, 2)), np.ones((1, 2, 1, 4, 2))], -1)
STRIPES = np.tile([0.0, 1.0, 1.0, 0.0], (1, 2, 1, 4, 1))


def of(name, x):
    return STATISTICS[name](x)


def test_statistics_of_a_constant_image():
    for name, expected in {"ink": 0.25, "contrast": 0, "group spread": 0, "symmetry": 1, "edges": 0}.items():
        np.testing.assert_allclose(of(name, CONSTANT), [expected] * 2, atol=1e-15, err_msg=name)


def test_statistics_of_two_halves():
    # One of three differences across is 1, none down.
    for name, expected in {"ink": 0.5, "contrast": 0.5, "group spread": 0, "symmetry": -1, "edges": 1 / 6}.items():
        np.testing.assert_allclose(of(name, HALVES), [expected], atol=1e-15, err_msg=name)


def test_symmetry_is_the_correlation_with_the_mirror():
    np.testing.assert_allclose(of("symmetry", STRIPES), [1.0])
    x = GENERATOR.normal(size=(1, 2, 1, 5, 6))
    expected = [np.corrcoef(view.ravel(), view[..., ::-1].ravel())[0, 1] for view in x[0]]
    np.testing.assert_allclose(of("symmetry", x), [np.mean(expected)])


def test_group_spread_is_the_mean_over_pairs():
    x = GENERATOR.normal(size=(2, 3, 7))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([np.square(x[:, a] - x[:, b]).mean(-1) for a, b in pairs], 0)
    np.testing.assert_allclose(of("group spread", x), expected)


def test_which_statistics_make_sense():
    assert set(statistics_for(2, (1, 8, 8))) == set(STATISTICS)
    assert set(statistics_for(2, (5,))) == {"ink", "contrast", "group spread"}
    assert set(statistics_for(1, (5,))) == {"ink", "contrast"}


def test_p_values_are_uniform_under_the_truth():
    x, x_rep = GENERATOR.normal(size=(1000, 2, 1, 3, 4)), GENERATOR.normal(size=(99, 1000, 2, 1, 3, 4))
    found = check(x, x_rep)
    assert found["p_value"].shape == (5, 1000)
    for name in STATISTICS:
        p = found["p_value"].sel(statistic=name).values
        assert stats.kstest(p + GENERATOR.uniform(-0.5, 0.5, 1000) / 100, "uniform").pvalue > 1e-3, name


@pytest.mark.parametrize(("brighter", "low", "high"), [(0.1, 0.0, 0.01), (0.0, 0.01, 0.99), (-0.1, 0.99, 1.0)])
def test_brighter_views_have_more_ink_than_the_story_makes(brighter, low, high):
    x, x_rep = GENERATOR.normal(size=(200, 2, 1, 3, 4)), GENERATOR.normal(size=(300, 200, 2, 1, 3, 4))
    overall = check(x + brighter, x_rep)["overall"]
    assert low <= float(overall.sel(statistic="ink")) <= high
    assert 0.001 < float(overall.sel(statistic="group spread")) < 0.999  # which brightness leaves alone


def test_ties_count_half_and_own_statistics_are_used():
    x = np.zeros((3, 2, 4))
    x_rep = np.stack([x - 1, x, x, x + 1])
    found = check(x, x_rep, {"largest": lambda views: views.max((1, 2))})
    assert list(found["statistic"].values) == ["largest"]
    np.testing.assert_array_equal(found["replicated"].values[0, :, 0], [-1, 0, 0, 1])
    np.testing.assert_array_equal(found["p_value"].values, [[0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(found["overall"].values, [0.5])


def test_what_does_not_fit_is_refused():
    x = np.zeros((3, 2, 4))
    with pytest.raises(InputError, match=r"x_rep has shape \(5, 2, 2, 4\) for x \(3, 2, 4\)"):
        check(x, np.zeros((5, 2, 2, 4)))
    with pytest.raises(InputError, match="S >= 1"):
        check(x, np.zeros((0, 3, 2, 4)))
    with pytest.raises(InputError, match=r"the statistic 'views' gives shape \(3, 2\)"):
        check(x, x[None], {"views": lambda views: views.mean(-1)})
