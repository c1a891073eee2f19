"""The charts: they hold every method and every seed."""

import numpy as np
import pytest

from pyro_simvae.comparison.charts import content_style, read_metrics, training_curves
from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import write_csv


def test_content_style_has_a_mark_a_method_at_the_mean_and_a_dot_a_seed():
    points = {"A": (np.array([0.1, 0.3]), np.array([0.5, 0.7])), "B": (np.array([0.9]), np.array([0.2]))}
    axes = content_style(points, "content", "style").axes[0]
    offsets = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    assert [len(part) for part in offsets] == [2, 1, 1, 1]
    np.testing.assert_allclose(offsets[1], [[0.2, 0.6]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", "B"]


def test_training_curves_show_the_elbo_or_the_loss_of_a_limit():
    elbo = [{"epoch": float(e), "train/elbo": -1.0 / e, "valid/elbo": -2.0 / e} for e in (1, 2)]
    loss = [{"epoch": float(e), "train/limit/loss": 1.0 / e, "train/elbo": 0.0} for e in (1, 2)]
    fig = training_curves({"A": [elbo, elbo], "B": [loss]})
    panels = {axes.get_title(loc="left"): axes for axes in fig.axes}
    assert panels["A"].get_ylabel() == "ELBO"
    assert panels["B"].get_ylabel() == "loss"
    np.testing.assert_allclose(panels["A"].lines[0].get_ydata(), [-1, -0.5])
    assert len(panels["A"].lines) == 4
    np.testing.assert_allclose(panels["B"].lines[0].get_ydata(), [1, 0.5])


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="no method has both"):
        content_style({}, "x", "y")
    with pytest.raises(InputError, match="no method has been fitted"):
        training_curves({})


def test_metrics_of_a_run_are_read_back_without_blanks(tmp_path):
    assert read_metrics(tmp_path) == []
    write_csv(tmp_path / "metrics.csv", [{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": -1.5}])
    assert read_metrics(tmp_path) == [{"epoch": 1.0, "a": 0.5}, {"epoch": 2.0, "b": -1.5}]
