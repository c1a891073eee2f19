"""Thumbnails: each image where its latent lies, no two in one square."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.offsetbox import AnnotationBbox

from pyro_simvae.errors import InputError
from pyro_simvae.figures import thumbnails
from pyro_simvae.figures.canvas import QUIET
from pyro_simvae.figures.planes import principal_plane
from pyro_simvae.figures.thumbnails import draw_run, latent_thumbnails


def images(index):
    return np.broadcast_to(index[:, None, None, None] / 1000, (len(index), 1, 4, 4))


def placed(fig):
    return [artist for artist in fig.axes[0].artists if isinstance(artist, AnnotationBbox)]


def test_thumbnails_lie_where_their_latents_do_and_show_their_images():
    z = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    fig = latent_thumbnails(z, images, np.arange(4))
    boxes = placed(fig)
    assert len(boxes) == 4
    assert {tuple(np.abs(np.round(box.xy, 6))) for box in boxes} == {(3.0, 0.0), (0.0, 1.0)}
    shown = sorted(float(box.offsetbox.get_data()[0, 0, 0]) for box in boxes)
    assert shown == [0.0, 0.001, 0.002, 0.003]


def test_no_more_than_one_thumbnail_a_square():
    z = np.random.default_rng(0).normal(size=(900, 5))
    points = principal_plane(z).points(z)
    chosen = thumbnails._nearest_to_middles(points)
    low, size = points.min(0), np.ptp(points, axis=0) / thumbnails.SQUARES
    squares = np.clip(((points[chosen] - low) // size).astype(int), 0, thumbnails.SQUARES - 1)
    assert len(np.unique(squares, axis=0)) == len(chosen)
    assert len(chosen) > 50


def test_collapsed_and_one_dimensional_latents_can_be_drawn():
    assert len(placed(latent_thumbnails(np.zeros((6, 3)), images))) == 1
    assert len(placed(latent_thumbnails(np.linspace(0, 1, 5)[:, None], images))) == 5


def test_latents_that_cannot_be_drawn_are_refused():
    with pytest.raises(InputError, match="have no plane"):
        latent_thumbnails(np.full((3, 2), np.nan), images)
    with pytest.raises(InputError, match=r"shape \(0, 2\)"):
        latent_thumbnails(np.empty((0, 2)), images)


def test_frames_tell_how_uncertain_a_latent_is():
    z = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    fig = latent_thumbnails(z, images, uncertainty=("k-hat", np.array([0.1, 0.9, np.nan, 0.5])))
    axes, bar = fig.axes
    assert bar.get_ylabel() == "k-hat"
    frames = {tuple(box.xy): box.patch.get_edgecolor()[:3] for box in placed(fig)}
    shades = colormaps["viridis"]
    for place, share in (((-3, 0), 0.0), ((3, 0), 1.0)):
        np.testing.assert_allclose(frames[place], shades(share)[:3])
    assert frames[0, 1] == to_rgb(QUIET)
    assert len(axes.collections[0].get_offsets()) == 4


def test_colours_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"of shape \(3,\) for 2 latents"):
        latent_thumbnails(np.eye(2), images, np.arange(3))
    with pytest.raises(InputError, match=r"of shape \(1,\) for 2 latents"):
        latent_thumbnails(np.eye(2), images, uncertainty=("scale", np.ones(1)))


def test_a_run_gets_its_picture_and_vectors_get_none(fit_images, tmp_path):
    run = fit_images(training={"epochs": 1})
    draw_run(run)
    assert (run / "figures" / "thumbnails.png").stat().st_size > 5000
    vectors = tmp_path / "vectors.npz"
    np.savez(vectors, views=np.random.default_rng(0).normal(size=(60, 2, 4)).astype(np.float32))
    run = fit_images(out="vectors", data=f"arrays:{vectors}", likelihood="normal", training={"epochs": 1})
    draw_run(run)
    assert not (run / "figures" / "thumbnails.png").exists()
