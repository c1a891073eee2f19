"""Densities by dimension: which are shown, what curves they have, and their KL divergence in closed form."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch.distributions import Normal, kl_divergence

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import INK
from pyro_simvae.figures.densities import informativeness, latent_densities


def standardised(shape, seed):
    """Draws whose mean is 0 and whose standard deviation is 1, to rounding."""
    draws = np.random.default_rng(seed).normal(size=shape)
    return (draws - draws.mean(0)) / draws.std(0)


def test_kl_is_that_of_gaussians():
    loc, scale = np.array([[1.0, 0.0, -2.0], [0.5, 0.0, 1.0]]), np.array([[0.5, 1.0, 0.1], [2.0, 1.0, 0.3]])
    z = loc + scale * standardised((100, 2, 3), 0)
    prior = 0.2 + 1.5 * standardised((80, 3), 1)
    as_tensors = Normal(torch.from_numpy(loc), torch.from_numpy(scale))
    expected = kl_divergence(as_tensors, Normal(0.2, 1.5)).mean(0).numpy()
    np.testing.assert_allclose(informativeness(z, prior), expected, rtol=1e-6)


@pytest.mark.parametrize(("latent_dim", "shown"), [(1, 1), (10, 10), (64, 16)])
def test_the_most_informative_dimensions_are_shown(latent_dim, shown):
    scale = np.linspace(1, 0.1, latent_dim)  # the later, the more is said of it
    z, prior = standardised((50, 2, latent_dim), 0) * scale, standardised((50, latent_dim), 1)
    fig = latent_densities(z, prior)
    titles = [axes.get_title(loc="left") for axes in fig.axes]
    assert [int(title.split()[1].rstrip(":")) for title in titles] == list(range(latent_dim - shown, latent_dim))
    assert ("16 of 64" in fig.get_suptitle()) == (latent_dim == 64)


def test_curves_peak_where_the_draws_do():
    z = standardised((400, 2, 1), 0) * 0.1 + np.array([[-1.0], [2.0]])
    fig = latent_densities(z, standardised((400, 1), 1), standardised((400, 1), 2) * 0.2 + 0.5)
    (axes,) = fig.axes
    assert len(axes.collections) == 1  # the prior
    assert axes.lines[2].get_color() == INK
    for line, peak in zip(axes.lines, (-1, 2, 0.5), strict=True):
        where, height = line.get_data()
        assert height.max() == pytest.approx(1)
        assert where[height.argmax()] == pytest.approx(peak, abs=0.15)
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels == ["prior", "view 1", "view 2", "content"]
    assert len({to_rgb(line.get_color()) for line in axes.lines}) == 3


def test_a_point_is_a_line_at_its_place():
    z = np.concatenate([np.full((30, 1, 1), 0.7), standardised((30, 1, 1), 0)], axis=1)
    (axes,) = latent_densities(z, standardised((30, 1), 1), prior_name="all groups").axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.7, 0.7])


def test_what_cannot_be_drawn():
    z, prior = standardised((20, 2, 3), 0), standardised((20, 3), 1)
    with pytest.raises(InputError, match="draws of prior have shape"):
        latent_densities(z, prior[:, :2])
    with pytest.raises(InputError, match="draws of content have shape"):
        latent_densities(z, prior, prior[:1])
    with pytest.raises(InputError, match="draws of z have shape"):
        latent_densities(z[:, 0], prior)
    with pytest.raises(InputError, match="draws of z are not all finite"):
        latent_densities(np.full_like(z, np.nan), prior)
