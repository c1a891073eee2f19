import numpy as np
import pytest

from pyro_simvae.figures.checks import check_histograms
from pyro_simvae.inspection.predictive_checks import check


def test_a_panel_a_statistic_with_the_data_among_replications():
    generator = np.random.default_rng(0)
    x, x_rep = generator.random((5, 2, 1, 6, 6)), generator.random((40, 5, 2, 1, 6, 6))
    checks = check(x, x_rep)
    fig = check_histograms(checks)
    assert len(fig.axes) == checks.sizes["statistic"] == 5
    ink = fig.axes[0]
    assert ink.get_title(loc="left") == f"ink: p = {float(checks['overall'][0]):.2f}"
    assert ink.lines[0].get_xdata()[0] == pytest.approx(x.mean())
    assert sum(bar.get_height() for bar in ink.patches) == 40
    means = x_rep.mean((1, 2, 3, 4, 5))
    assert ink.patches[0].get_x() == pytest.approx(means.min())


def test_replications_that_are_all_the_same_can_be_drawn():
    x = np.zeros((3, 1, 4))
    fig = check_histograms(check(x, np.zeros((10, 3, 1, 4))))
    assert "p = 0.50" in fig.axes[0].get_title(loc="left")
