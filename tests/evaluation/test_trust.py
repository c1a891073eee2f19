"""Trust by hand, against brute force, and at its extremes: certain, constant, wrong."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import nn

from pyro_simvae import limits
from pyro_simvae.data.digits import Digits
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.sprites import Sprites
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.features import Features, Labels, Prepared
from pyro_simvae.evaluation.trust import (
    calibration_error,
    foreign,
    foreign_to,
    ood_auroc,
    ood_bound_auroc,
    trust,
)
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP

SIZES = (600, 300, 400)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def labels_of(num_classes=2):
    return Labels(*(np.arange(size) % num_classes for size in SIZES))


def apart(labels, rng, distance=10.0, spread=1.0):
    """Classes on an axis each."""
    centres = distance * np.eye(int(labels.train.max()) + 1, dtype=np.float32)
    return Prepared(Features(*(centres[y] + spread * rng.normal(size=(len(y), len(centres))) for y in labels)))


class TestCalibrationError:
    def test_by_hand(self):
        # Three items at 0.9, two of them right; one at 0.6, right.
        probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
        found = calibration_error(probabilities, np.array([0, 1, 1, 1]))
        assert found == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * (1 - 0.6))

    def test_certain_and_right_or_wrong(self):
        certain = np.eye(3)[[0, 1, 2, 0]]
        assert calibration_error(certain, np.array([0, 1, 2, 0])) == pytest.approx(0)
        assert calibration_error(certain, np.array([1, 2, 0, 1])) == pytest.approx(1)

    def test_calibrated_by_construction(self, rng):
        confidence = rng.uniform(0.5, 1, 200_000)
        classes = (rng.uniform(size=200_000) > confidence).astype(np.int64)
        assert calibration_error(np.stack([confidence, 1 - confidence], axis=1), classes) < 0.01


class TestTrust:
    def test_classes_apart(self, rng):
        labels = labels_of(3)
        features = apart(labels, rng)
        scores = trust(features, labels, [features.raw.test])
        assert scores["selective_80"] == 1
        assert scores["aurc"] == 0
        assert scores["ece"] < 0.05

    def test_draws_at_the_locs_are_the_plug_in(self, rng):
        labels = labels_of()
        features = apart(labels, rng, distance=1)
        scores = trust(features, labels, np.stack([features.raw.test] * 3))
        assert scores["ece"] == pytest.approx(scores["ece_plugin"], abs=1e-9)

    def test_confidence_is_that_of_the_mean_over_draws(self, rng):
        labels = labels_of()
        features = apart(labels, rng)
        # One draw in each class: the mean is undecided, and half of the items are right.
        draws = [np.full((400, 2), centre, dtype=np.float32) for centre in ([10.0, 0.0], [0.0, 10.0])]
        scores = trust(features, labels, draws)
        assert scores["ece"] == pytest.approx(0, abs=0.02)
        assert trust(features, labels, draws[:1])["ece"] == pytest.approx(0.5, abs=0.02)

    def test_draws_from_the_true_posterior_are_calibrated_where_the_loc_is_too_sure(self, rng):
        # The class is the side that z lies on, and of test only q(z | x) = Normal(loc, 1) is known.
        z = [2 * rng.normal(size=(count, 1)).astype(np.float32) for count in (3000, 1000, 4000)]
        noise = rng.normal(size=(51, *z[2].shape)).astype(np.float32)
        labels = Labels(*((split[:, 0] > 0).astype(np.int64) for split in (z[0], z[1], z[2] + noise[0])))
        scores = trust(Prepared(Features(*z)), labels, z[2] + noise[1:])
        assert scores["ece"] < 0.03
        assert scores["ece_plugin"] > 2 * scores["ece"]

    def test_selective_accuracy_by_hand(self):
        # Ten items, the two in the middle on the wrong side.
        labels = Labels(np.arange(100) % 2, np.arange(40) % 2, np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1]))
        test = np.array([-5, -4, -3, -2, -0.2, 0.1, 2, 3, 4, 5], dtype=np.float32)[:, None]
        known = [(6.0 * y - 3)[:, None].astype(np.float32) for y in (labels.train, labels.valid)]
        scores = trust(Prepared(Features(*known, test)), labels, [test])
        assert scores["selective_80"] == 1
        assert scores["aurc"] == pytest.approx((1 / 9 + 2 / 10) / 10)

    def test_constant_locs_give_the_share_of_the_largest_class(self):
        labels = Labels(*(np.where(np.arange(size) % 4 == 0, 1, 0) for size in SIZES))
        features = Prepared(Features(*(np.full((size, 2), 3.3, dtype=np.float32) for size in SIZES)))
        scores = trust(features, labels, [features.raw.test])
        assert scores["ece"] < 0.01
        assert scores["selective_80"] == pytest.approx(0.75)

    def test_permuted_labels_give_chance(self, rng):
        labels = labels_of(4)
        features = apart(labels, rng, distance=3)
        assert trust(features, labels, [features.raw.test])["selective_80"] > 0.9
        found = []
        for _ in range(10):
            permuted = Labels(rng.permutation(labels.train), rng.permutation(labels.valid), labels.test)
            found.append(trust(features, permuted, [features.raw.test])["selective_80"])
        assert np.mean(found) == pytest.approx(0.25, abs=0.1)

    def test_class_values_need_not_be_contiguous(self, rng):
        labels = labels_of(3)
        features = apart(labels, rng)
        renamed = Labels(*(np.array([2, 7, 40])[split] for split in labels))
        assert trust(features, renamed, [features.raw.test]) == trust(features, labels, [features.raw.test])

    def test_test_labels_change_no_choice(self, rng):
        labels = labels_of()
        features = apart(labels, rng, distance=1)
        scores = [trust(features, labels._replace(test=y), [features.raw.test]) for y in (labels.test, 1 - labels.test)]
        # Every right answer becomes a wrong one, at the same confidence.
        assert scores[0]["selective_80"] == pytest.approx(1 - scores[1]["selective_80"])
        assert scores[0]["aurc"] == pytest.approx(1 - scores[1]["aurc"])

    def test_bad_draws(self, rng):
        labels = labels_of()
        features = apart(labels, rng)
        with pytest.raises(InputError, match="no posterior draws: give one or more"):
            trust(features, labels, [])
        with pytest.raises(InputError, match=r"a draw has shape \(399, 2\) for locs \(400, 2\)"):
            trust(features, labels, [features.raw.test[1:]])

    def test_labels_that_do_not_fit(self, rng):
        labels = labels_of()
        features = apart(labels, rng)
        with pytest.raises(InputError, match="for 400 items"):
            trust(features, labels._replace(test=labels.test[1:]), [features.raw.test])


class TestDistance:
    def test_is_to_the_15th_nearest_train_item(self, rng):
        train, test, other = (rng.normal(size=(n, 3)).astype(np.float32) for n in (200, 60, 50))
        other *= 3
        far = [np.sort(np.linalg.norm(z[:, None] - train, axis=-1), axis=1)[:, 14] for z in (test, other)]
        expected = np.mean(far[0][:, None] < far[1])
        assert ood_auroc(train, test, other) == pytest.approx(expected)
        assert expected > 0.6

    def test_extremes(self, rng):
        train, test, same = (rng.normal(size=(n, 4)).astype(np.float32) for n in (2000, 1000, 1000))
        assert ood_auroc(train, test, same + 100) == 1
        spot = np.zeros((20, 4), dtype=np.float32)
        assert ood_auroc(np.concatenate([train, spot]), test, spot) == 0
        assert ood_auroc(train, test, same) == pytest.approx(0.5, abs=0.05)  # a standard deviation of 0.013

    def test_constant_latents_tell_nothing(self):
        assert ood_auroc(*(np.ones((n, 2), dtype=np.float32) for n in (20, 10, 10))) == 0.5

    def test_too_few_train_items(self):
        z = np.ones((14, 2), dtype=np.float32)
        with pytest.raises(InputError, match="14 items: detection needs 15 or more"):
            ood_auroc(z, z, z)


class Pixels(nn.Module):
    """A decoder whose latent is the view."""

    event_shape = torch.Size((1, 2, 2))

    def forward(self, z):
        return z.reshape(*z.shape[:-1], *self.event_shape)


class Posterior(PyroModule):
    """The exact posterior of z ~ Normal(0, I), x ~ Normal(z, s² I)."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        share = 1 / (1 + self.scale**2)
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            pyro.sample("z", dist.Normal(share * x.flatten(2), self.scale * math.sqrt(share)).to_event(1))


class TestBound:
    pair = LedgerELBO(VAE(Normal(Pixels(), scale=0.5), 4), Posterior(0.5))

    def split(self, rng, scale=1.0, count=400):
        return MemorySplit(torch.from_numpy(scale * rng.normal(size=(count, 1, 2, 2))).float())

    def test_is_that_of_the_evidence_where_the_guide_is_exact(self, rng):
        test, other = self.split(rng, count=300), self.split(rng, 1.5, count=200)
        # log p(x) falls with |x|² alone.
        size = [split.images(torch.arange(len(split))).square().sum((1, 2, 3)).numpy() for split in (test, other)]
        expected = np.mean(size[0][:, None] < size[1])
        assert 0.6 < expected < 0.95
        assert ood_bound_auroc(self.pair, test, other, lambda x: x, 0) == pytest.approx(expected, abs=1e-3)

    def test_extremes(self, rng):
        test = self.split(rng)
        far, near = self.split(rng, 100.0), self.split(rng, 0.0)
        assert ood_bound_auroc(self.pair, test, far, lambda x: x, 0) == pytest.approx(1, abs=1e-3)
        assert ood_bound_auroc(self.pair, test, near, lambda x: x, 0) == pytest.approx(0, abs=1e-3)
        assert ood_bound_auroc(self.pair, test, test, lambda x: x, 0) == pytest.approx(0.5, abs=1e-3)

    def test_leaves_the_global_state_alone(self, rng):
        state = torch.get_rng_state()
        ood_bound_auroc(self.pair, self.split(rng), self.split(rng), lambda x: x, 0)
        assert torch.equal(torch.get_rng_state(), state)

    def test_pairs_without_a_bound(self, rng):
        def gaussian(**arguments):
            model = SimVAE(Normal(MLP([4]).decoder((1, 2, 2), 3)), 3, **arguments)
            return LedgerELBO(model, MeanField(model, MLP([4]).encoder((1, 2, 2), 3)))

        class Labelled(Posterior):
            def forward(self, x, labels=None):
                super().forward(x)

        finite = gaussian()
        limited = LedgerELBO(*limits.simclr()(finite.model, finite.guide))
        labelled = LedgerELBO(self.pair.model, Labelled(0.5))
        splits = self.split(rng), self.split(rng)
        assert ood_bound_auroc(finite, *splits, lambda x: x, 0) is not None
        for pair in (limited, labelled, gaussian(content_scale=math.inf)):
            assert ood_bound_auroc(pair, *splits, lambda x: x, 0) is None


class TestForeign:
    @pytest.mark.parametrize("name", ["digits", "sprites"])
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20)])
    def test_has_the_shape_of_this_one(self, name, shape):
        split = foreign(name, shape)
        images = split.images(torch.arange(len(split)))
        assert images.shape == (359, *shape)
        assert images.dtype == torch.uint8
        assert split.event_shape == shape
        assert split.labels is None
        assert images.float().std() > 20

    def test_of_the_same_shape_it_is_the_test_split_itself(self):
        test = Digits().load().test
        assert torch.equal(foreign("digits", (1, 8, 8)).images(torch.arange(359)), test.images(torch.arange(359)))

    def test_grey_is_brightness_and_colours_are_kept(self):
        rows = torch.arange(359)
        colour, grey = (foreign("sprites", (channels, 32, 32)).images(rows).float() for channels in (3, 1))
        expected = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
        torch.testing.assert_close(grey[:, 0], expected, rtol=0, atol=0.51)
        digits = foreign("digits", (3, 8, 8)).images(rows)
        assert torch.equal(digits[:, 0], digits[:, 2])

    def test_none_is_compared_with_itself(self):
        assert foreign_to(Digits()) == ["sprites"]
        assert foreign_to(Sprites()) == ["digits"]

        class Other(Digits):
            pass

        assert foreign_to(Other()) == ["digits", "sprites"]

    def test_unknown_name(self):
        with pytest.raises(InputError, match="unknown foreign data set 'digit': did you mean digits"):
            foreign("digit", (1, 8, 8))

    @pytest.mark.parametrize("shape", [(10,), (5, 27), (2, 8, 8)])
    def test_views_that_are_no_images(self, shape):
        with pytest.raises(InputError, match="leave out-of-distribution data out"):
            foreign("digits", shape)
