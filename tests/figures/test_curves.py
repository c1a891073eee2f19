import numpy as np
import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import save
from pyro_simvae.figures.curves import curve, ledger, limits


def rows(elbos):
    return [
        {
            "epoch": epoch,
            "train/elbo": elbo,
            "valid/elbo": elbo - 5,
            "train/log_p/x": elbo + 30,
            "valid/log_p/x": elbo + 25,
            "train/log_p/z": -20.0,
            "train/log_q/z": 10.0,
            "train/log_p/content": -12.0,
            "train/log_q/content": -4.0,
            "train/objective": elbo,
        }
        for epoch, elbo in enumerate(elbos, start=1)
    ]


def labels(axes):
    return [line.get_label() for line in axes.get_lines()]


def test_three_panels(tmp_path):
    fig = ledger(rows([-300.0, -200.0, -150.0]))
    elbo, reconstruction, terms = fig.axes
    assert labels(elbo) == labels(reconstruction) == ["train", "valid"]
    assert labels(terms) == ["log p(z)", "log q(z)", "log p(content)", "log q(content)"]
    np.testing.assert_array_equal(reconstruction.get_lines()[1].get_xydata(), [[1, -275], [2, -175], [3, -125]])
    save(fig, tmp_path / "ledger.png")


def test_a_single_epoch_is_a_point(tmp_path):
    fig = ledger(rows([-300.0]))
    save(fig, tmp_path / "ledger.png")
    for axes in fig.axes:
        assert all(line.get_marker() == "o" for line in axes.get_lines())
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_missing_terms_leave_their_panel_empty(tmp_path):
    fig = ledger([{"epoch": 1, "train/elbo": -3.0}, {"epoch": 2, "train/elbo": -2.0}])
    save(fig, tmp_path / "ledger.png")
    assert [labels(axes) for axes in fig.axes] == [["train"], [], []]
    assert fig.axes[1].texts[0].get_text() == "not recorded"


def test_several_observed_sites_are_summed():
    metrics = [{"epoch": 1, "train/log_p/x": -3.0, "train/log_p/y": -4.0, "train/log_p/z": 1.0, "train/log_q/z": 2.0}]
    assert ledger(metrics).axes[1].get_lines()[0].get_ydata() == [-7]


def test_a_curve_leaves_out_what_is_not_finite():
    metrics = [{"epoch": 1, "a": np.nan}, {"epoch": 2, "a": 5.0}, {"epoch": 3}, {"epoch": 4, "a": 6.0}]
    epochs, values = curve(metrics, ["a"])
    np.testing.assert_array_equal(epochs, [2, 4])
    np.testing.assert_array_equal(values, [5, 6])
    assert len(curve(metrics, [])[0]) == 0


def test_a_huge_early_value_does_not_flatten_the_rest():
    values = np.concatenate([[-1e6, -300], np.linspace(-250, -200, 18)])
    low, high = limits([values])
    assert -320 < low < -300
    assert -200 < high < -190


def test_ordinary_curves_are_shown_whole():
    low, high = limits([np.linspace(-200, -100, 20), np.linspace(-210, -90, 20)])
    assert low < -210
    assert high > -90


def test_limits_of_little_or_nothing():
    assert limits([]) is None
    assert limits([np.zeros(0)]) is None
    low, high = limits([np.array([3.0])])
    assert low < 3 < high
    low, high = limits([np.full(9, -7.0)])
    assert low < -7 < high


def test_no_epochs():
    with pytest.raises(InputError, match="no epochs"):
        ledger([])
