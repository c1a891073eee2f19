import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE
from pyro_simvae.figures.grids import picture_grid, ranked_images


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 3, 8, 6))


def at(axes, row, column, images):
    """The pixels around the middle of an image, found by its tick."""
    height, width = images.shape[-2:]
    top = round(axes.get_yticks()[row] - (height - 1) / 2)
    left = round(axes.get_xticks()[column] - (width - 1) / 2)
    return axes.images[0].get_array()[top : top + height, left : left + width]


def test_images_lie_at_their_names_and_frames(images):
    fig = picture_grid(
        images,
        "Title",
        row_names=["a", "b"],
        column_names=["1", "2", "3"],
        labels=("columns", "rows"),
        frames={(1, 2): (BLUE, "dashed")},
    )
    (axes,) = fig.axes
    for row in range(2):
        for column in range(3):
            np.testing.assert_allclose(at(axes, row, column, images), images[row, column].transpose(1, 2, 0), rtol=1e-6)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("columns", "rows", "Title")
    (frame,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert to_rgb(frame.get_edgecolor()) == to_rgb(BLUE)
    middle = frame.get_x() + frame.get_width() / 2, frame.get_y() + frame.get_height() / 2
    assert middle == (axes.get_xticks()[2], axes.get_yticks()[1])


@pytest.mark.parametrize(("side", "rows", "columns"), [(8, 1, 1), (64, 6, 11), (28, 20, 3)])
def test_a_figure_fits_what_is_in_it(side, rows, columns):
    fig = picture_grid(np.zeros((rows, columns, 1, side, side)), "A title", row_names=["a long name"] * rows)
    fig.draw_without_rendering()
    drawn = fig.axes[0].images[0].get_window_extent()
    assert drawn.width / columns > 0.4 * fig.dpi
    assert drawn.width * drawn.height > 0.4 * fig.bbox.width * fig.bbox.height or rows * columns == 1


def test_a_narrow_figure_is_widened_for_its_title():
    fig = picture_grid(np.zeros((1, 1, 1, 8, 8)), "A title that is a good deal longer than its only image is wide")
    fig.draw_without_rendering()
    assert fig.axes[0].get_tightbbox().x1 < fig.bbox.width


def test_names_that_do_not_fit(images):
    with pytest.raises(InputError, match="1 names for 2 rows or columns"):
        picture_grid(images, "", row_names=["a"])
    with pytest.raises(InputError, match="4 names for 3 rows or columns"):
        picture_grid(images, "", column_names=list("abcd"))


def test_vectors_have_no_picture():
    with pytest.raises(InputError, match=r"\(7,\) are not images"):
        picture_grid(np.zeros((2, 3, 7)), "")
    with pytest.raises(InputError, match=r"are not images"):
        ranked_images(np.zeros((3, 7)), np.arange(3.0), "scale")


class TestRanked:
    def test_order_values_and_what_is_left_out(self):
        values = np.array([0.1, np.nan, 0.5, 0.3, -2.0])
        images = np.arange(5).reshape(5, 1, 1, 1) / 10 * np.ones((5, 1, 4, 4))
        for largest, order in ((True, [2, 3, 0, 4]), (False, [4, 0, 3, 2])):
            fig = ranked_images(images, values, "k-hat", largest=largest)
            (axes,) = fig.axes
            assert [text.get_text() for text in axes.texts] == [f"{values[index]:.3g}" for index in order]
            shown = [float(axes.images[0].get_array()[0, round(text.get_position()[0]), 0]) for text in axes.texts]
            np.testing.assert_allclose(shown, [index / 10 for index in order], rtol=1e-6)
            assert "4 of 4 images" in axes.get_title(loc="left")

    def test_rows_are_filled_up_with_white(self):
        fig = ranked_images(np.zeros((11, 1, 4, 4)), np.arange(11.0), "scale", count=10)
        (axes,) = fig.axes
        assert len(axes.texts) == 10
        pixels = axes.images[0].get_array()
        assert pixels[0].min() == 0
        np.testing.assert_array_equal(pixels[-1, 10:], 1)  # the second row has two images of eight

    def test_captions_stay_clear_of_the_row_below(self):
        fig = ranked_images(np.zeros((16, 1, 28, 28)), np.arange(16.0), "scale")
        fig.draw_without_rendering()
        (axes,) = fig.axes
        below = axes.texts[0].get_window_extent().y0
        _, top = axes.transData.transform((0, 28 + round(0.35 * 28) + 1))
        assert below > top

    def test_values_that_do_not_fit(self):
        with pytest.raises(InputError, match=r"values of shape \(2,\) for 3 images"):
            ranked_images(np.zeros((3, 1, 4, 4)), np.zeros(2), "scale")
        with pytest.raises(InputError, match="k-hat: there is no value that is a number"):
            ranked_images(np.zeros((3, 1, 4, 4)), np.full(3, np.nan), "k-hat")
