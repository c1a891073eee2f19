import pytest

from pyro_simvae.figures.panels import headline, panels, view_look


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (7, 3, 3)])
def test_panels_fill_rows(count, rows, columns):
    fig, axes = panels(count, 3, 2.0, 1.0)
    assert len(axes) == count
    assert axes[0].get_gridspec().get_geometry() == (rows, columns)
    assert fig.get_size_inches().tolist() == [2 * columns, rows + 0.5]


def test_a_figure_is_as_wide_as_its_headline():
    fig, _ = panels(1, 3, 2.0, 1.0)
    headline(fig, "short\nA headline of WIDE LETTERS that is a good deal longer than a panel is wide")
    fig.draw_without_rendering()
    assert fig.texts[0].get_window_extent().x1 <= fig.bbox.width
    height = fig.get_size_inches()[1]
    headline(fig, "short")
    assert fig.get_size_inches()[1] == height == 1.5


def test_twelve_views_can_be_told_apart():
    assert len({view_look(view) for view in range(12)}) == 12
    assert view_look(12) == view_look(0)
