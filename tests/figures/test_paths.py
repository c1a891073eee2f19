"""Paths through latents: on the linear story, where views of a straight path are a straight path."""

import numpy as np
import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.figures.paths import (
    along,
    content_traversal,
    interpolation,
    interpolation_figure,
    latent_traversal,
    principal_directions,
    traversal_figure,
)
from pyro_simvae.inference import rng
from pyro_simvae.inspection.decoded import decode
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, LinearGaussian, PrivateStyle, Spherical
from pyro_simvae.networks import MLP, Linear

D, SHAPE = 3, (1, 4, 4)
STEPS = np.array([-2.0, 0.0, 1.0])


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def story():
    with rng.isolated(0):
        return LinearGaussian(Normal(Linear().decoder(SHAPE, D)), D).double()


def build(story, **options):
    with rng.isolated(0):
        return story(Normal(MLP([8]).decoder(SHAPE, D)), D, **options).double()


def test_directions_are_those_of_the_covariance(generator):
    axes = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    values = generator.normal(size=(40_000, 3)) * [0.5, 3.0, 1.0] @ axes.T
    directions, scales = principal_directions(values, 2)
    np.testing.assert_allclose(scales, [3, 1], rtol=0.02)
    np.testing.assert_allclose(np.abs(directions @ axes), [[0, 1, 0], [0, 0, 1]], atol=0.02)
    assert principal_directions(values, 9)[0].shape == (3, 3)
    one, scale = principal_directions(values[:, :1], 2)
    np.testing.assert_allclose(np.abs(one), [[1]])
    np.testing.assert_allclose(scale, [values[:, 0].std(ddof=1)])


def test_steps_by_hand():
    found = along(np.array([1.0, 1.0]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.5, 2.0]), np.array([-1.0, 3.0]))
    np.testing.assert_array_equal(found, [[[0.5, 1], [2.5, 1]], [[1, -1], [1, 7]]])


def test_a_traversal_of_content_is_straight_and_begins_at_the_content(story, generator):
    content, directions, scales = generator.normal(size=D), np.eye(D)[:2], np.array([0.5, 2.0])
    images = content_traversal(story, content, directions, scales, STEPS)
    assert images.shape == (2, 3, *SHAPE)
    weight = story.likelihood.decoder.linear.weight.detach().numpy()
    for k in range(2):
        np.testing.assert_allclose(images[k, 1], decode(story, content))
        moved = (images[k, 2] - images[k, 1]).ravel()
        np.testing.assert_allclose(moved, scales[k] * weight[:, k], rtol=1e-8)
        np.testing.assert_allclose((images[k, 0] - images[k, 1]).ravel(), -2 * moved, rtol=1e-8)
    np.testing.assert_allclose(latent_traversal(story, content, directions, scales, STEPS), images)


def test_contents_of_fewer_dimensions_are_traversed_in_their_own(generator):
    model = build(PrivateStyle, content_dim=1)
    images = content_traversal(model, np.array([0.5]), np.ones((1, 1)), np.ones(1), STEPS)
    latents = np.array([[-1.5, 0, 0], [0.5, 0, 0], [1.5, 0, 0]])
    np.testing.assert_allclose(images[0], decode(model, latents))


def test_interpolation_is_straight_and_ends_at_its_ends(story, generator):
    start, end = generator.normal(size=(2, 4, D))
    images = interpolation(story, start, end, 5)
    assert images.shape == (4, 5, *SHAPE)
    np.testing.assert_allclose(images[:, 0], decode(story, start))
    np.testing.assert_allclose(images[:, -1], decode(story, end))
    np.testing.assert_allclose(images[:, 2], decode(story, (start + end) / 2))
    # A view that depends on z alone does not ask for contents.
    np.testing.assert_allclose(interpolation(story, start, end, 5, (start, end)), images)


def test_interpolation_on_the_sphere_stays_there():
    model = build(Spherical)
    ends = np.eye(D)[:2]
    images = interpolation(model, ends[:1], ends[1:], 3)
    np.testing.assert_allclose(images[0, 1], decode(model, ends.sum(0) / np.sqrt(2)), rtol=1e-10)


def test_a_story_without_content_is_refused():
    with pytest.raises(InputError, match="no site 'content'"):
        content_traversal(build(VAE), np.zeros(D), np.eye(D), np.ones(D), STEPS)


def test_figure_of_a_traversal_frames_its_start(generator):
    images = generator.random((2, 3, 1, 4, 4))
    (axes,) = traversal_figure(images, STEPS, ["first", "second"], "Content").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["-2", "0", "+1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["first", "second"]
    assert [patch.get_x() + patch.get_width() / 2 for patch in axes.patches] == [axes.get_xticks()[1]] * 2
    assert not traversal_figure(images, STEPS + 0.5, ["first", "second"], "Content").axes[0].patches
    with pytest.raises(InputError, match="1 names for 2"):
        traversal_figure(images, STEPS, ["first"], "Content")


def test_figure_of_an_interpolation_has_the_real_views_at_its_ends(generator):
    images, start, end = generator.random((2, 5, 1, 4, 4)), generator.random((2, 1, 4, 4)), np.zeros((2, 1, 4, 4))
    (axes,) = interpolation_figure(images, start, end).axes
    pixels = axes.images[0].get_array()
    np.testing.assert_allclose(pixels[:4, :4, 0], start[0, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[:4, 5:9, 0], images[0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(pixels[:4, -4:, 0], 0)
    assert len(axes.patches) == 4
    assert [tick.get_text() for tick in axes.get_xticklabels()][1::2] == ["0%", "50%", "100%"]
    with pytest.raises(InputError, match="give a view for each end"):
        interpolation_figure(images, start[:1], end)


def test_directions_that_cannot_be_had():
    for values in (np.zeros((1, 3)), np.full((4, 3), np.nan), np.zeros(3)):
        with pytest.raises(InputError, match="have no directions"):
            principal_directions(values, 2)
