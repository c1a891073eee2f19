import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.figures import induced
from pyro_simvae.figures.canvas import save
from pyro_simvae.limits.covariance import gaussian_entropy


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    for name, value in (("CELLS", 5), ("ANGLES", 12), ("PIXELS", 9), ("STEPS", 2)):
        monkeypatch.setattr(induced, name, value)


@pytest.fixture
def data():
    return induced.batch()


POINTS = torch.tensor([[0.4, -1.0], [1.5, 0.2], [-0.3, -0.9]], dtype=torch.float64)


def moved(data, point):
    z = data.z.clone()
    z[0, 0] = point
    return z


def test_density_of_a_contrastive_limit_is_its_formula(data):
    """NT-Xent written out, with z_11 at each point in turn."""
    found = induced.log_density(limits.simclr(temperature=0.3), data, POINTS)
    expected = []
    for point in POINTS:
        z = F.normalize(moved(data, point), dim=-1).flatten(0, 1)
        logits = (z @ z.T / 0.3).fill_diagonal_(-torch.inf)
        expected.append(-F.cross_entropy(logits, torch.arange(64) ^ 1, reduction="sum"))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_density_of_a_gaussian_limit_is_its_formula(data):
    found = induced.log_density(limits.logdet(temperature=0.3, eps=0.0), data, POINTS)
    constant = 2 * math.log(2 * math.pi * math.e) / 2
    expected = []
    for point in POINTS:
        z = moved(data, point)
        agreement = -(z[:, 0] - z[:, 1]).square().sum() / 0.3  # both ways
        expected.append(agreement + 32 * (gaussian_entropy(z) - constant).sum())
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", limits.LIMITS)
def test_density_of_every_limit_is_its_loss(name, data):
    before = data.z.clone()
    limit = induced.prepare(name, data)
    found = induced.log_density(limit, data, POINTS)
    target = None if limit.momentum is None else data.z
    for value, point in zip(found, POINTS, strict=True):
        loss = limit.loss(moved(data, point), target=target, labels=data.labels, index=data.index).total
        torch.testing.assert_close(value, -64 * loss)
    assert torch.equal(data.z, before)
    again = induced.log_density(induced.prepare(name, data), data, POINTS)
    assert torch.equal(found, again)  # whatever the seed outside, which has moved on


@pytest.mark.parametrize("name", ["simclr", "swav", "softmax", "logdet", "clip"])
def test_temperatures_are_those_of_one_story(name, data):
    assert float(induced.prepare(name, data, 0.3).temperature_of(2)) == pytest.approx(2 * 0.3**2)


def test_a_limit_without_temperature_keeps_its_own_scale(data):
    assert induced.prepare("vicreg", data, 0.3).temperature_of(2) == limits.vicreg().temperature_of(2)


def test_state_is_fitted_to_the_batch(data, monkeypatch):
    # A class's location goes to its latents, so their directions score above their opposites.
    monkeypatch.setattr(induced, "STEPS", 100)
    limit = induced.prepare("softmax", data)
    middle = data.z[data.labels == 0].mean((0, 1))
    near, far = induced.log_density(limit, data, torch.stack([middle, -middle]))
    assert near > far + 2


def test_story_panel_is_its_normal(data):
    panel = induced.story_panel(data, 0.4)
    side = np.linspace(-induced.REACH, induced.REACH, induced.PIXELS)
    first, second = np.meshgrid(side, side)
    squares = (first - float(data.z[0, 1, 0])) ** 2 + (second - float(data.z[0, 1, 1])) ** 2
    below = squares / (4 * 0.4**2)
    np.testing.assert_allclose(panel.below, np.minimum(below - below.min(), 64), rtol=1e-10, atol=1e-10)


def test_panels_of_spheres_are_constant_along_rays(data):
    assert induced.limit_panel("simclr", data).along_rays
    for name in ("logdet", "barlow_twins", "wmse"):
        assert not induced.limit_panel(name, data).along_rays


def test_panel_holds_the_density_on_the_square(data, monkeypatch):
    """Where cells and pixels coincide nothing is interpolated: row is the second dimension, column the first."""
    monkeypatch.setattr(induced, "CELLS", 9)
    panel = induced.limit_panel("logdet", data, 0.4)
    side = torch.linspace(-induced.REACH, induced.REACH, 9, dtype=torch.float64)
    points = torch.stack([torch.stack([side[4], side[6]]), torch.stack([side[7], side[1]])])
    first, second = induced.log_density(induced.prepare("logdet", data, 0.4), data, points)
    assert panel.below[1, 7] - panel.below[6, 4] == pytest.approx(float(first - second))
    assert panel.below.min() == 0


def test_ray_panel_holds_the_density_of_directions(data):
    panel = induced.limit_panel("simclr", data)
    right, up = induced.log_density(
        induced.prepare("simclr", data), data, torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    )
    assert panel.below[4, 8] - panel.below[8, 4] == pytest.approx(float(up - right))
    np.testing.assert_allclose(panel.below[6, 6], panel.below[8, 8])


def test_a_panel_for_each_and_none_where_there_is_none(data, tmp_path):
    panels = [induced.story_panel(data), *(induced.limit_panel(name, data) for name in ("simclr", "logdet"))]
    fig = induced.induced(2 * panels, data)
    assert isinstance(fig, Figure)
    shown = [axes for axes in fig.axes[:10] if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in shown]
    assert titles == 2 * ["The program", "SimCLR", "LogDet"]
    save(fig, tmp_path / "limits.png")


def test_keys_name_the_circle_only_where_it_is(data):
    for panel, keys in ((induced.story_panel(data), 2), (induced.limit_panel("simclr", data), 3)):
        assert len(induced.induced([panel], data).legends[0].get_texts()) == keys


def test_errors(data):
    with pytest.raises(InputError, match="no densities"):
        induced.induced([], data)
    with pytest.raises(InputError, match="style_scale is 0"):
        induced.prepare("simclr", data, 0.0)
    with pytest.raises(InputError, match="did you mean simclr"):
        induced.prepare("simclar", data)
