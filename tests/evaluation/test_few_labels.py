"""Curves over the number of labelled items, on representations whose score is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation import few_labels
from pyro_simvae.evaluation.features import Features, Labels, Prepared
from pyro_simvae.evaluation.few_labels import few_label_curve

SIZES = (360, 60, 300)


def draw_labels(num_classes=3):
    return Labels(*(np.arange(size) % num_classes for size in SIZES))


def blobs(labels, spread):
    generator = np.random.default_rng(0)
    return Features(*(np.eye(6)[split] + spread * generator.normal(size=(len(split), 6)) for split in labels))


def test_separated_classes_need_one_label():
    labels = draw_labels()
    features = Features(*(split[:, :3] for split in blobs(labels, 0.02)))  # the other dimensions are but noise
    assert few_label_curve(Prepared(features), labels, 0) == {
        "few_1": 1.0,
        "few_5": 1.0,
        "few_10": 1.0,
        "few_100": 1.0,
    }


def test_more_labels_tell_more():
    labels = draw_labels()
    scores = few_label_curve(Prepared(blobs(labels, 0.6)), labels, 0)
    assert scores["few_1"] < scores["few_10"] < scores["few_100"]
    assert scores["few_1"] > 1 / 3


def test_constant_features_give_chance():
    labels = draw_labels()
    constant = Features(*(np.ones((size, 2)) for size in SIZES))
    assert few_label_curve(Prepared(constant), labels, 0) == pytest.approx(
        dict.fromkeys(("few_1", "few_5", "few_10", "few_100"), 1 / 3)
    )


def test_only_what_the_rarest_class_allows():
    labels = draw_labels()._replace(train=np.repeat([0, 1, 2], [300, 53, 7]))
    assert few_label_curve(Prepared(blobs(labels, 0.1)), labels, 0).keys() == {"few_1", "few_5"}


def test_it_is_a_mean_of_logistic_regressions_on_balanced_draws(monkeypatch):
    labels = draw_labels()
    fits = []
    fit = LogisticRegression.fit

    def recorded(model, features, known):
        fits.append((features, known, fit(model, features, known)))
        return model

    monkeypatch.setattr(LogisticRegression, "fit", recorded)
    prepared = Prepared(blobs(labels, 0.6))
    scores = few_label_curve(prepared, labels, 0)
    assert len(fits) == 4 * few_labels.DRAWS
    tens = fits[2 * few_labels.DRAWS : 3 * few_labels.DRAWS]
    test = prepared.standardised("test")
    expected = np.mean([model.score(test, labels.test) for _, _, model in tens])
    assert scores["few_10"] == pytest.approx(expected)
    train = prepared.standardised("train")
    for features, known, _ in tens:
        np.testing.assert_array_equal(np.bincount(known), [10, 10, 10])
        items = [np.flatnonzero((train == row).all(axis=1)).item() for row in features]
        assert len(set(items)) == 30
        np.testing.assert_array_equal(labels.train[items], known)
    assert len({features.tobytes() for features, _, _ in tens}) == few_labels.DRAWS


def test_valid_labels_are_never_read_beyond_their_names():
    labels = draw_labels()
    prepared = Prepared(blobs(labels, 0.6))
    shuffled = labels._replace(valid=labels.valid[::-1])
    assert few_label_curve(prepared, shuffled, 0) == few_label_curve(prepared, labels, 0)


def test_the_seed_draws_the_items():
    labels = draw_labels()
    prepared = Prepared(blobs(labels, 0.6))
    assert few_label_curve(prepared, labels, 1) == few_label_curve(prepared, labels, 1)
    assert few_label_curve(prepared, labels, 1) != few_label_curve(prepared, labels, 2)


def test_labels_are_checked():
    labels = draw_labels()
    with pytest.raises(InputError, match="one class"):
        few_label_curve(Prepared(blobs(labels, 0.1)), Labels(*(0 * split for split in labels)), 0)
