"""Styles apart from content: a content with its own style is the reconstruction, in every story that has content."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, ORANGE
from pyro_simvae.figures.styles import (
    content_swap,
    content_swap_figure,
    style_draws,
    style_draws_figure,
    style_of,
)
from pyro_simvae.inference import rng
from pyro_simvae.inspection.decoded import decode, latent_mean
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, HeavyTails, PrivateStyle, SimVAE, Spherical
from pyro_simvae.networks import MLP

N, J, D, SHAPE = 4, 2, 3, (1, 4, 5)


def build(story, **options):
    with rng.isolated(0):
        return story(Normal(MLP([8]).decoder(SHAPE, D)), D, **options).double()


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("story", "content_dim"), [(SimVAE, D), (HeavyTails, D), (PrivateStyle, 1), (Spherical, D)])
def test_the_diagonal_of_a_swap_is_the_reconstruction(story, content_dim, generator):
    model, z, content = build(story), generator.normal(size=(N, J, D)), generator.normal(size=(N, content_dim))
    if story is Spherical:
        z, content = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (z, content))
    swapped = content_swap(model, content, style_of(model, z, content)[:, 0])
    assert swapped.shape == (N, N, *SHAPE)
    np.testing.assert_allclose(swapped[range(N), range(N)], decode(model, z[:, 0]), rtol=1e-8)


def test_a_swap_adds_the_columns_style_to_the_rows_content(generator):
    model, content, style = build(SimVAE), generator.normal(size=(2, D)), generator.normal(size=(3, D))
    swapped = content_swap(model, content, style)
    np.testing.assert_allclose(swapped[1, 2], decode(model, content[1] + style[2]))


def test_a_private_style_moves_with_the_view_and_the_shared_part_with_the_content():
    model = build(PrivateStyle, content_dim=1)
    content, z = np.array([[1.0], [5.0]]), np.array([[[1.0, 7.0, 8.0]], [[5.0, -7.0, -8.0]]])
    swapped = content_swap(model, content, style_of(model, z, content)[:, 0])
    np.testing.assert_allclose(swapped[0, 1], decode(model, np.array([1.0, -7.0, -8.0])))


def test_draws_of_style_begin_with_the_content_and_vary_around_it(generator):
    model, content = build(SimVAE, style_scale=1e-6), generator.normal(size=(N, D))
    images = style_draws(model, content, 5)
    assert images.shape == (N, 6, *SHAPE)
    alone = decode(model, latent_mean(model, content))
    np.testing.assert_allclose(images[:, 0], alone)
    np.testing.assert_allclose(images, np.broadcast_to(alone[:, None], images.shape), atol=1e-4)
    wide = style_draws(build(SimVAE, style_scale=1.0), content, 5, seed=1)
    np.testing.assert_array_equal(wide, style_draws(build(SimVAE, style_scale=1.0), content, 5, seed=1))
    assert np.abs(wide[:, 1:] - wide[:, :1]).mean() > 100 * np.abs(images[:, 1:] - images[:, :1]).mean()


def test_a_story_without_content_is_refused():
    with pytest.raises(InputError, match="no site 'content'"):
        content_swap(build(VAE), np.zeros((2, D)), np.zeros((2, D)))


def colours(axes):
    return [to_rgb(patch.get_edgecolor()) for patch in axes.patches]


def test_figure_of_draws_has_the_real_views_first(generator):
    x, images = generator.random((N, J, *SHAPE)), generator.random((N, 4, *SHAPE))
    (axes,) = style_draws_figure(x, images).axes
    pixels = axes.images[0].get_array()
    np.testing.assert_allclose(pixels[:4, :5, 0], x[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[:4, 12:17, 0], images[0, 0, 0], rtol=1e-6)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["view 1", "view 2", "content", "", "", ""]
    assert colours(axes).count(to_rgb(ORANGE)) == N * J
    assert colours(axes).count(to_rgb(BLUE)) == N
    with pytest.raises(InputError, match="give both of the same groups"):
        style_draws_figure(x[:1], images)


def test_figure_of_a_swap_has_the_real_views_at_its_margins(generator):
    images, rows, columns = (generator.random(size) for size in ((2, 3, *SHAPE), (2, *SHAPE), (3, *SHAPE)))
    (axes,) = content_swap_figure(images, rows, columns).axes
    pixels = axes.images[0].get_array()
    np.testing.assert_array_equal(pixels[:4, :5], 1)  # the corner is blank
    np.testing.assert_allclose(pixels[:4, 6:11, 0], columns[0, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[5:9, :5, 0], rows[0, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[5:9, 6:11, 0], images[0, 0, 0], rtol=1e-6)
    assert colours(axes) == [to_rgb(BLUE)] * 2 + [to_rgb(ORANGE)] * 3
    with pytest.raises(InputError, match="3 and 2 views at the margins of 2 contents by 3 styles"):
        content_swap_figure(images, columns, rows)
