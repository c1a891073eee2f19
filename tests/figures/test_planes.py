import numpy as np
import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.figures.planes import dimension_plane, principal_plane


@pytest.fixture
def z():
    return np.random.default_rng(0).normal(size=(50, 4)) * [1, 5, 2, 0.1] + 3


def test_principal_components_are_scikit_learns(z):
    from sklearn.decomposition import PCA

    plane, pca = principal_plane(z), PCA(2).fit(z)
    np.testing.assert_allclose(np.abs(plane.points(z)), np.abs(pca.transform(z)), atol=1e-9)
    assert plane.names == tuple(
        f"principal component {k + 1} ({share:.0%} of the variance)"
        for k, share in enumerate(pca.explained_variance_ratio_)
    )


def test_covariances_are_those_of_the_points(z):
    plane = principal_plane(z)
    np.testing.assert_allclose(plane.covariances(np.cov(z.T)), np.cov(plane.points(z).T), atol=1e-9)
    stacked = np.broadcast_to(np.cov(z.T), (2, 3, 4, 4))
    assert plane.covariances(stacked).shape == (2, 3, 2, 2)


def test_few_dimensions_are_shown_themselves():
    z = np.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_array_equal(principal_plane(z).points(z), z)
    np.testing.assert_array_equal(principal_plane(z[:, :1]).points(z[:, :1]), [[1, 0], [3, 0]])


def test_a_collapsed_latent_has_a_plane():
    plane = principal_plane(np.ones((5, 3)))
    assert "0%" in plane.names[0]
    np.testing.assert_allclose(plane.points(np.ones((5, 3))), 0)


def test_chosen_dimensions(z):
    plane = dimension_plane(4, 3, 1)
    np.testing.assert_array_equal(plane.points(z), z[:, [3, 1]])
    np.testing.assert_array_equal(plane.covariances(np.diag([1.0, 2, 3, 4])), np.diag([4, 2]))
    assert plane.names == ("z, dimension 3", "z, dimension 1")


def test_what_has_no_plane():
    for z in (np.full((3, 2), np.nan), np.empty((0, 2)), np.zeros(3)):
        with pytest.raises(InputError, match="have no plane"):
            principal_plane(z)
    for first, second in ((1, 1), (0, 4), (-1, 0)):
        with pytest.raises(InputError, match=r"make no plane: give two that differ, in \[0, 4\)"):
            dimension_plane(4, first, second)
