"""Clusters against labels, on representations whose score is known."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation import clustering
from pyro_simvae.evaluation.clustering import cluster, matched_accuracy
from pyro_simvae.evaluation.features import Features, Labels, Prepared

SIZES = (400, 50, 300)
KEYS = {f"{model}_{metric}" for model in ("kmeans", "gmm") for metric in ("accuracy", "nmi", "ari")}


def draw_labels(num_classes=4):
    return Labels(*(np.arange(size) % num_classes for size in SIZES))


def around(centres, labels, spread, seed=0):
    """Normal noise around each item's class centre."""
    generator = np.random.default_rng(seed)
    shape = centres.shape[1]
    return Features(
        *(np.float32(centres[split] + spread * generator.normal(size=(len(split), shape))) for split in labels)
    )


def test_separated_classes_are_found_whatever_their_order_and_units():
    labels = Labels(*(np.array([7, 3, 20, 5])[split] for split in draw_labels()))
    features = around(np.eye(4), draw_labels(), 0.05)
    for scale, shift in ((1, 0), (1e-4, 0), (100, 1000)):
        moved = Prepared(Features(*(scale * split + shift for split in features)))
        assert cluster(moved, labels, 0) == dict.fromkeys(KEYS, 1.0)


def test_unrelated_labels_give_chance():
    generator = np.random.default_rng(0)
    labels = Labels(*(generator.permutation(split) for split in draw_labels()))
    scores = cluster(Prepared(around(np.eye(4), draw_labels(), 0.05)), labels, 0)
    # Of 24 matchings the best is taken: a little above 1/4.
    assert all(scores[f"{model}_accuracy"] < 0.36 for model in ("kmeans", "gmm"))
    assert all(abs(scores[key]) < 0.05 for key in KEYS if not key.endswith("accuracy"))


@pytest.mark.parametrize("dimensions", [3, 200])
def test_a_collapsed_representation_scores_as_one_cluster(dimensions):
    labels = Labels(*(np.where(np.arange(size) % 5 < 3, 0, np.arange(size) % 5 - 2) for size in SIZES))
    collapsed = Features(*(np.full((size, dimensions), 3.0, dtype=np.float32) for size in SIZES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = cluster(Prepared(collapsed), labels, 0)
    expected = {"accuracy": 0.6, "nmi": 0.0, "ari": 0.0}  # three in five are of class 0
    assert scores == pytest.approx({key: expected[key.split("_")[1]] for key in KEYS}, abs=1e-9)


def test_a_mixture_sees_widths_that_means_do_not():
    # A narrow cluster beside a wide one: k-means cuts half-way between their centres, through the wide one.
    labels = Labels(*(np.arange(size) % 2 for size in SIZES))
    generator = np.random.default_rng(0)
    centres, widths = np.array([[0, 0], [2.5, 0]]), np.array([[0.1], [1]])
    features = Features(*(centres[split] + widths[split] * generator.normal(size=(len(split), 2)) for split in labels))
    scores = cluster(Prepared(features), labels, 0)
    assert scores["gmm_accuracy"] > 0.98
    assert scores["kmeans_accuracy"] < 0.96


def test_metrics_are_scikit_learns_on_test():
    labels = draw_labels()
    features = Prepared(around(np.eye(4), labels, 0.5))
    scores = cluster(features, labels, 3)
    # The test items themselves as clusters' names: what k-means assigned is recovered from its published centres.
    space = clustering._reduction(features.raw.train, 3)
    means = clustering.KMeans(4, n_init=clustering.STARTS, random_state=3).fit(space(features.raw.train))
    assigned = means.predict(space(features.raw.test))
    assert scores["kmeans_nmi"] == pytest.approx(normalized_mutual_info_score(labels.test, assigned))
    assert scores["kmeans_ari"] == pytest.approx(adjusted_rand_score(labels.test, assigned))
    assert 0.3 < scores["kmeans_nmi"] < 0.9
    assert scores == cluster(features, labels, 3)


def test_train_labels_tell_only_how_many_classes_there_are():
    labels = draw_labels()
    features = Prepared(around(np.eye(4), labels, 0.3))
    shuffled = labels._replace(train=np.random.default_rng(0).permutation(labels.train))
    assert cluster(features, shuffled, 0) == cluster(features, labels, 0)


def test_matching_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert matched_accuracy(labels, np.array([1, 1, 0, 0, 0, 0])) == pytest.approx(5 / 6)
    # Three clusters for two classes: the third matches nothing.
    assert matched_accuracy(labels, np.array([2, 2, 1, 0, 0, 0])) == pytest.approx(5 / 6)
    # Both classes are most frequent in cluster 0, but only one may have it.
    assert matched_accuracy(labels, np.array([0, 0, 1, 0, 0, 0])) == pytest.approx(4 / 6)


def test_wide_features_are_clustered_in_their_principal_components():
    labels = draw_labels()
    generator = np.random.default_rng(0)
    wide = generator.normal(size=(4, 300))
    features = Prepared(around(wide, labels, 0.1))
    space = clustering._reduction(features.raw.train, 0)(features.raw.train)
    assert space.shape == (400, clustering.MOST_DIMENSIONS)
    assert space.var(axis=0).mean() == pytest.approx(1)
    assert cluster(features, labels, 0)["kmeans_accuracy"] == 1.0


def test_clusters_are_fitted_to_some_items_only(monkeypatch):
    monkeypatch.setattr(clustering, "MOST_ITEMS", 40)
    labels = draw_labels()
    features = around(np.eye(4), labels, 0.05)
    seen = clustering.spread(400, 40)
    unseen = np.setdiff1d(np.arange(400), seen)
    features.train[unseen] = np.random.default_rng(0).normal(size=(len(unseen), 4)) * 10
    assert len(np.unique(labels.train[seen])) == 4
    assert cluster(Prepared(features), labels, 0)["gmm_accuracy"] == 1.0


def test_more_clusters_than_points(monkeypatch):
    monkeypatch.setattr(clustering, "MOST_ITEMS", 3)
    labels = draw_labels()
    with pytest.raises(InputError, match="more clusters than points: 4 classes for 3 train items"):
        cluster(Prepared(around(np.eye(4), labels, 0.1)), labels, 0)


def test_labels_are_checked():
    labels = draw_labels()
    with pytest.raises(InputError, match="test split has 299 labels"):
        cluster(Prepared(around(np.eye(4), labels, 0.1)), labels._replace(test=labels.test[1:]), 0)
