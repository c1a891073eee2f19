"""Ellipses of posteriors: their axes, their place, and how much lies inside."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Ellipse
from scipy.stats import chi2

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, INK, ORANGE
from pyro_simvae.figures.ellipses import moments_of_draws, moments_of_normal, posterior_ellipses
from pyro_simvae.figures.planes import Plane, dimension_plane, principal_plane

G, J, D = 2, 3, 4


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def z(generator):
    return moments_of_normal(generator.normal(size=(G, J, D)), generator.uniform(0.1, 1, size=(G, J, D)))


@pytest.fixture
def content(generator):
    return moments_of_normal(generator.normal(size=(G, D)), np.full((G, D), 0.3))


@pytest.fixture
def others(generator):
    return generator.normal(size=(100, D))


def outlines(axes):
    return [patch for patch in axes.patches if isinstance(patch, Ellipse) and not patch.get_fill()]


def test_axes_of_an_ellipse_are_the_levels_quantile_times_the_scales(z, others):
    plane = dimension_plane(D, 0, 2)
    fig = posterior_ellipses(z, None, others, plane, level=0.8)
    radius = np.sqrt(chi2.ppf(0.8, 2))
    for group, axes in enumerate(fig.axes):
        for view, ellipse in enumerate(outlines(axes)):
            np.testing.assert_allclose(ellipse.center, z.loc[group, view, [0, 2]])
            scales = np.sqrt(np.diag(z.covariance[group, view]))[[0, 2]]
            found = sorted([ellipse.width, ellipse.height])
            np.testing.assert_allclose(found, np.sort(2 * radius * scales))
            # The longer axis lies along the dimension of the larger scale.
            assert abs(np.cos(np.radians(ellipse.angle))) == pytest.approx(float(scales[0] > scales[1]), abs=1e-9)


def test_an_oblique_ellipse_holds_the_share_that_it_names(generator):
    covariance = np.array([[2.0, 1.2, 0], [1.2, 1.0, 0.3], [0, 0.3, 0.5]])
    draws = generator.multivariate_normal([1.0, -2.0, 0.5], covariance, size=20_000)
    axes = np.linalg.qr(generator.normal(size=(3, 2)))[0]
    plane = Plane(np.array([0.1, 0.2, 0.3]), axes, ("a", "b"))
    fig = posterior_ellipses(moments_of_draws(draws[:, None, None]), None, draws, plane)
    (ellipse,) = outlines(fig.axes[0])
    corners = np.array(ellipse.get_patch_transform().inverted().transform(plane.points(draws)))
    inside = (np.square(corners).sum(1) <= 1).mean()
    assert inside == pytest.approx(0.9, abs=0.01)


def test_moments_of_draws(generator):
    draws = generator.normal(size=(50, 2, 3)) * [1, 2, 3]
    found = moments_of_draws(draws)
    np.testing.assert_allclose(found.loc, draws.mean(0))
    np.testing.assert_allclose(found.covariance[1], np.cov(draws[:, 1].T))
    with pytest.raises(InputError, match="1 draws have no covariance"):
        moments_of_draws(draws[:1])


def test_a_panel_holds_views_content_and_the_other_views(z, content, others):
    fig = posterior_ellipses(z, content, others, principal_plane(others), names=["first", "second"])
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["first", "second"]
    for axes in fig.axes:
        colours = [ellipse.get_edgecolor()[:3] for ellipse in outlines(axes)]
        assert len(colours) == J + 1
        assert colours[0] == to_rgb(BLUE)
        assert colours[1] == to_rgb(ORANGE)
        assert colours[-1] == to_rgb(INK)
        assert len(axes.collections[0].get_offsets()) == len(others)
    assert "90%" in fig.get_suptitle()


def test_all_panels_show_the_same_and_every_ellipse_whole(z, content):
    far = content._replace(loc=content.loc + np.array([[0.0], [30.0]]))
    fig = posterior_ellipses(z, far, np.zeros((0, D)), dimension_plane(D, 0, 1))
    fig.draw_without_rendering()
    first, second = fig.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    for axes in fig.axes:
        for ellipse in outlines(axes):
            box, window = ellipse.get_extents(), axes.bbox
            assert window.contains(*box.min)
            assert window.contains(*box.max)


def test_views_stand_below_in_the_colours_of_their_ellipses(z, others, generator):
    x = generator.random((G, J, 1, 4, 4))
    fig = posterior_ellipses(z, None, others, principal_plane(others), x)
    panel, pictures = fig.axes[:2]
    np.testing.assert_allclose(pictures.images[0].get_array()[:4, :4, 0], x[0, 0, 0])
    frames = [patch.get_edgecolor() for patch in pictures.patches]
    assert frames == [ellipse.get_edgecolor() for ellipse in outlines(panel)]


def test_a_point_has_an_ellipse_of_no_size(others):
    point = moments_of_normal(np.ones((1, 1, D)), np.zeros((1, 1, D)))
    (ellipse,) = outlines(posterior_ellipses(point, None, others, principal_plane(others)).axes[0])
    assert ellipse.width == ellipse.height == 0


def test_what_cannot_be_drawn(z, content, others):
    plane = principal_plane(others)
    with pytest.raises(InputError, match=r"no moments of groups of latents of 4 dimensions"):
        posterior_ellipses(moments_of_normal(z.loc[0], z.loc[0]), None, others, plane)
    short = moments_of_normal(content.loc[:, :2], content.loc[:, :2])
    with pytest.raises(InputError, match=r"give moments of E\[z \| content\]"):
        posterior_ellipses(z, short, others, plane)
    with pytest.raises(InputError, match="names of 1 groups for 2"):
        posterior_ellipses(z, None, others, plane, names=["one"])
    with pytest.raises(InputError, match="views of 1 groups for 2"):
        posterior_ellipses(z, None, others, plane, np.zeros((1, J, 1, 4, 4)))
    with pytest.raises(InputError, match="are not images"):
        posterior_ellipses(z, None, others, plane, np.zeros((G, J, 7)))
    with pytest.raises(InputError, match="level is 1: give a probability"):
        posterior_ellipses(z, None, others, plane, level=1)
