import numpy as np
import pytest
from matplotlib.colors import to_rgba

from pyro_simvae.errors import InputError
from pyro_simvae.figures import overview
from pyro_simvae.figures.canvas import PALETTE, mosaic


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def points(fig):
    """How many points are drawn, legend keys apart."""
    return sum(len(collection.get_offsets()) for collection in fig.axes[0].collections)


class TestSave:
    def test_writes_png_and_nothing_else(self, tmp_path, rng):
        path = tmp_path / "grid.png"
        overview.save(overview.image_grid(rng.random((2, 3, 1, 4, 4)), "Title"), path)
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        assert list(tmp_path.iterdir()) == [path]

    def test_keeps_the_old_file_when_drawing_fails(self, tmp_path, rng):
        path = tmp_path / "grid.png"
        path.write_bytes(b"old")
        fig = overview.image_grid(rng.random((2, 3, 1, 4, 4)), "$\\nonsense{$")
        with pytest.raises(ValueError, match="nonsense"):
            overview.save(fig, path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


class TestPictures:
    def test_mosaic_by_hand(self):
        images = np.zeros((2, 2, 1, 1, 1))
        images[0, 1] = 0.5
        images[1, 0] = 7.0  # clipped to 1
        canvas = mosaic(images, np.array([2]))
        assert canvas.shape == (4, 3, 3)
        np.testing.assert_array_equal(canvas[..., 0], [[0, 1, 0.5], [1, 1, 1], [1, 1, 1], [1, 1, 0]])

    def test_mosaic_keeps_colour(self, rng):
        images = rng.random((1, 1, 3, 4, 5)).astype(np.float32)
        np.testing.assert_array_equal(mosaic(images, np.zeros(0)), images[0, 0].transpose(1, 2, 0))

    def test_reconstructions_alternate_with_views(self, rng):
        x = rng.random((4, 2, 1, 8, 8)).astype(np.float32)
        fig = overview.reconstructions(x, 1 - x)
        (axes,) = fig.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            "view 1",
            "reconstruction",
            "view 2",
            "reconstruction",
        ]
        canvas = axes.images[0].get_array()
        # The second view of the third group, and its reconstruction: rows at 2 (8) + 1 + 4 and a row more.
        left = 2 * 9
        np.testing.assert_allclose(canvas[21:29, left : left + 8, 0], x[2, 1, 0])
        np.testing.assert_allclose(canvas[30:38, left : left + 8, 0], 1 - x[2, 1, 0])

    def test_row_labels(self, rng):
        fig = overview.image_grid(rng.random((2, 5, 3, 8, 8)), "Views", ["a", "b"])
        (axes,) = fig.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
        assert axes.get_title(loc="left") == "Views"

    def test_vectors_have_no_picture(self, rng):
        with pytest.raises(InputError, match=r"\(7,\) are not images"):
            overview.reconstructions(rng.random((3, 2, 7)), rng.random((3, 2, 7)))
        with pytest.raises(InputError, match="not images"):
            overview.image_grid(rng.random((3, 2, 7)), "Samples")
        with pytest.raises(InputError, match="not images"):
            overview.image_grid(rng.random((3, 2, 4, 8, 8)), "Samples")

    def test_no_images(self):
        with pytest.raises(InputError, match="no images"):
            overview.image_grid(np.zeros((2, 0, 1, 8, 8)), "Samples")

    def test_shapes_that_differ(self, rng):
        with pytest.raises(InputError, match="give one for each view"):
            overview.reconstructions(rng.random((3, 2, 1, 8, 8)), rng.random((3, 1, 1, 8, 8)))

    def test_labels_that_do_not_fit(self, rng):
        with pytest.raises(InputError, match="1 row labels for 2 rows"):
            overview.image_grid(rng.random((2, 5, 3, 8, 8)), "Views", ["a"])


class TestLatents:
    @pytest.mark.parametrize("dim", [1, 2, 3, 64])
    def test_draws_every_point(self, rng, dim):
        fig = overview.latent_scatter(rng.normal(size=(50, dim)), np.arange(50) % 4, ["a", "b", "c", "d"])
        assert len(fig.axes) == 1
        assert points(fig) == 50
        assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["a", "b", "c", "d"]

    def test_components_by_hand(self):
        # Variances 9 and 4 of 13 + 1, along the second and the third dimension.
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], dtype=np.float32)
        fig = overview.latent_scatter(signs * [1, 3, 2] + 5, None, None)
        axes = fig.axes[0]
        assert "64%" in axes.get_xlabel()
        assert "29%" in axes.get_ylabel()
        drawn = np.abs(axes.collections[0].get_offsets())
        np.testing.assert_allclose(drawn, np.tile([3, 2], (8, 1)), rtol=1e-6)

    def test_thins_out_to_the_same_points(self, rng):
        z = rng.normal(size=(6000, 3))
        first, second = (overview.latent_scatter(z, None, None).axes[0].collections[0].get_offsets() for _ in "ab")
        assert len(first) == overview.MOST_POINTS
        np.testing.assert_array_equal(first, second)

    def test_a_colour_means_its_class(self, rng):
        labels = np.array([0, 0, 0, 3])
        fig = overview.latent_scatter(np.array([[0.0, 0], [0, 1], [1, 0], [9, 9]]), labels, None)
        scatter = fig.axes[0].collections[0]
        colour = scatter.get_facecolors()[scatter.get_offsets()[:, 0] == 9]
        np.testing.assert_allclose(colour[0, :3], to_rgba(PALETTE[1])[:3])

    def test_eleven_classes_use_a_second_marker(self, rng):
        fig = overview.latent_scatter(rng.normal(size=(55, 3)), np.arange(55) % 11, None)
        first, second = fig.axes[0].collections[:2]
        assert (len(first.get_offsets()), len(second.get_offsets())) == (50, 5)

    def test_more_classes_than_can_be_told_apart_are_not_coloured(self, rng):
        fig = overview.latent_scatter(rng.normal(size=(50, 3)), np.arange(50), None)
        assert fig.axes[0].get_legend() is None

    def test_a_collapsed_latent(self):
        fig = overview.latent_scatter(np.ones((10, 3)), None, None)
        assert "0%" in fig.axes[0].get_xlabel()

    def test_errors(self, rng):
        with pytest.raises(InputError, match="not all finite"):
            overview.latent_scatter(np.array([[np.nan, 1]]), None, None)
        with pytest.raises(InputError, match="cannot be drawn"):
            overview.latent_scatter(np.zeros((0, 3)), None, None)
        with pytest.raises(InputError, match="3 labels for 4"):
            overview.latent_scatter(np.zeros((4, 3)), np.zeros(3, dtype=int), None)


class TestStyleScales:
    def test_sorted_by_size(self):
        fig = overview.style_scales(np.array([0.1, 1.0, 0.5]))
        (axes,) = fig.axes
        assert axes.get_yscale() == "log"
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(tops, [1.0, 0.5, 0.1])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "0"]

    @pytest.mark.parametrize("dim", [1, 40, 300])
    def test_any_number_of_dimensions(self, tmp_path, dim):
        overview.save(overview.style_scales(np.full(dim, 0.4)), tmp_path / "scales.png")

    @pytest.mark.parametrize("scale", [[0.0, 1.0], [np.nan], [], [np.inf]])
    def test_scales_must_be_positive(self, scale):
        with pytest.raises(InputError, match="positive and finite"):
            overview.style_scales(np.array(scale))
