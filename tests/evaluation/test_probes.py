import tracemalloc

import numpy as np
import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation import classifiers, clustering, regressors
from pyro_simvae.evaluation import features as features_module
from pyro_simvae.evaluation.clustering import cluster
from pyro_simvae.evaluation.features import Prepared
from pyro_simvae.evaluation.few_labels import few_label_curve
from pyro_simvae.evaluation.probes import (
    Features,
    Labels,
    Targets,
    classify,
    on_circle,
    probe_factors,
    regress,
)

SIZES = (300, 100, 200)


def draw_labels(num_classes=3):
    return Labels(*(np.arange(size) % num_classes for size in SIZES))


def blobs(labels, spread=0.1):
    """One-hot class centres with noise around them."""
    rng = np.random.default_rng(0)
    return Features(
        *(np.eye(5, dtype=np.float32)[split] + spread * rng.normal(size=(len(split), 5)) for split in labels)
    )


def draw_targets():
    rng = np.random.default_rng(1)
    return Targets(*(rng.uniform(-1, 1, size).astype(np.float32) for size in SIZES))


def test_neighbours_are_the_nearest_far_from_the_origin_too():
    features = Features(*(split + 1000.0 for split in blobs(draw_labels(), spread=1.0)))
    prepared = Prepared(features)
    train, test = (split.astype(np.float64) for split in (prepared.raw.train, prepared.raw.test))
    distances = ((test[:, None] - train) ** 2).sum(axis=2)
    np.testing.assert_array_equal(prepared.test_neighbours, distances.argsort(axis=1)[:, :45])


class TestStandardised:
    @pytest.fixture
    def prepared(self):
        generator = np.random.default_rng(0)
        return Prepared(Features(*(50 + 3 * generator.normal(size=(size, 4)).astype("f") for size in (2600, 1500, 20))))

    def test_by_the_moments_of_train(self, prepared):
        loc, scale = prepared.raw.train.mean(0, dtype=np.float64), prepared.raw.train.std(0, dtype=np.float64)
        for name in ("train", "valid", "test"):
            expected = (getattr(prepared.raw, name) - loc) / scale
            np.testing.assert_allclose(prepared.standardised(name), expected, atol=1e-5)
            np.testing.assert_array_equal(np.concatenate(list(prepared.parts(name))), prepared.standardised(name))
        items = np.array([7, 3, 3])
        np.testing.assert_array_equal(prepared.standardised("valid", items), prepared.standardised("valid")[items])

    def test_what_is_returned_may_be_written_to(self, prepared):
        before = prepared.raw.valid.copy()
        for items in (None, np.arange(5)):
            prepared.standardised("valid", items)[:] = 0
        np.testing.assert_array_equal(prepared.raw.valid, before)
        assert prepared.standardised("valid").dtype == np.float32


class TestClassify:
    def test_separated_classes_are_all_found(self):
        labels = draw_labels()
        assert classify(Prepared(blobs(labels)), labels) == {"knn": 1.0, "linear": 1.0, "mlp": 1.0}

    def test_class_values_need_not_be_contiguous(self):
        labels = draw_labels()
        renamed = Labels(*(np.array([2, 7, 40])[split] for split in labels))
        assert classify(Prepared(blobs(labels)), renamed) == {"knn": 1.0, "linear": 1.0, "mlp": 1.0}

    def test_constant_features_give_chance(self):
        labels = Labels(*(np.where(np.arange(size) % 4 == 0, 1, 0) for size in SIZES))
        features = Features(*(np.full((size, 2), 3.0, dtype=np.float32) for size in SIZES))
        scores = classify(Prepared(features), labels)
        assert scores["linear"] == scores["mlp"] == 0.75  # the larger class
        assert scores["knn"] in (0.25, 0.75)  # every neighbour is as near as any other

    def test_unrelated_labels_give_chance(self):
        features = blobs(draw_labels())
        rng = np.random.default_rng(3)
        scores = classify(Prepared(features), Labels(*(rng.integers(0, 3, size) for size in SIZES)))
        # 200 draws at 1/3 have a standard deviation of 0.033.
        assert all(abs(score - 1 / 3) < 0.12 for score in scores.values())

    def test_the_seed_fixes_the_result(self):
        labels = draw_labels()
        features = blobs(labels, spread=0.8)
        assert classify(Prepared(features), labels, seed=1) == classify(Prepared(features), labels, seed=1)

    def test_small_data_with_fewer_items_than_a_batch(self):
        labels = Labels(*(np.arange(15) % 3 for _ in range(3)))
        assert classify(Prepared(blobs(labels)), labels)["linear"] == 1.0

    def test_knn_is_the_vote_of_15_neighbours(self):
        # Beside the test point at 0 lie 7 items of class 0, then 8 of class 1, and far away 20 of class 0.
        train = np.concatenate([np.full(7, 0.1), np.full(8, 0.2), np.full(20, 9.0)])[:, None]
        features = Features(train, np.zeros((1, 1)), np.zeros((1, 1)))
        labels = Labels(np.repeat([0, 1, 0], [7, 8, 20]), np.array([1]), np.array([1]))
        assert classifiers.knn_accuracy(Prepared(features), labels) == 1.0


class TestChoosing:
    """Test labels may change the score, never what is scored."""

    @pytest.fixture
    def case(self):
        labels = draw_labels()
        return blobs(labels, spread=0.6), labels

    @pytest.fixture
    def penalties(self, monkeypatch):
        """The C of every logistic regression, in the order of the fits."""
        values = []
        fit = classifiers.LogisticRegression.fit

        def recorded(model, *data):
            values.append(model.C)
            return fit(model, *data)

        monkeypatch.setattr(classifiers.LogisticRegression, "fit", recorded)
        return values

    def test_test_labels_do_not_choose_the_penalty(self, case, penalties):
        features, labels = case
        scrambled = labels._replace(test=np.random.default_rng(0).permutation(labels.test))
        for some in (labels, scrambled):
            classifiers.linear_accuracy(Prepared(features), some)
        count = len(classifiers.INVERSE_PENALTIES) + 1
        assert penalties[:count] == penalties[count:]

    def test_the_penalty_follows_valid(self, penalties):
        # 50 items of class 0 are well apart from 250 of class 1. Under the strongest penalty all look like
        # class 1, which suits valid labels that are all 1; true valid labels ask for a weaker one.
        truth = np.repeat([0, 1], [50, 250])
        x = 2.0 * truth[:, None] + 0.1 * np.random.default_rng(0).normal(size=(300, 1))
        chosen = []
        for valid in (np.ones_like(truth), truth):
            score = classifiers.linear_accuracy(Prepared(Features(x, x, x)), Labels(truth, valid, truth))
            chosen.append((penalties[-1] > min(classifiers.INVERSE_PENALTIES), score))
        assert chosen == [(False, 250 / 300), (True, 1.0)]

    def test_the_mlp_stops_at_its_best_valid_epoch(self, case):
        prepared, labels = Prepared(case[0]), case[1]
        fit = prepared, labels, np.arange(len(labels.train)), 1e-4, 0
        model, best = classifiers.stopped_mlp(*fit)
        valid = prepared.standardised("valid")
        scores = [each.score(valid, labels.valid) for each in classifiers._epochs(*fit)]
        assert max(scores[: scores.index(best) + classifiers.PATIENCE + 1]) == best
        assert model.score(valid, labels.valid) == best

    def test_an_epoch_shows_every_item_once(self, case, monkeypatch):
        monkeypatch.setattr(features_module, "PART", 70)
        prepared, labels = Prepared(case[0]), case[1]
        shown = []
        partial_fit = classifiers.MLPClassifier.partial_fit

        def recorded(model, features, known, classes):
            shown.append((features, known))
            return partial_fit(model, features, known, classes=classes)

        monkeypatch.setattr(classifiers.MLPClassifier, "partial_fit", recorded)
        items = np.arange(0, 300, 2)
        next(classifiers._epochs(prepared, labels, items, 1e-4, 0))
        assert [len(known) for _, known in shown] == [75, 75]
        seen = np.column_stack([np.concatenate(each) for each in zip(*shown, strict=True)])
        expected = np.column_stack([prepared.standardised("train")[items], labels.train[items]])
        np.testing.assert_allclose(seen[np.lexsort(seen.T)], expected[np.lexsort(expected.T)])

    def test_test_labels_do_not_choose_the_mlp(self, case):
        prepared, labels = Prepared(case[0]), case[1]
        fit = np.arange(len(labels.train)), 1e-4, 0
        model, _ = classifiers.stopped_mlp(prepared, labels, *fit)
        again, _ = classifiers.stopped_mlp(prepared, labels._replace(test=labels.test[::-1]), *fit)
        np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])

    def test_representative_items_keep_every_class_in_proportion(self, monkeypatch):
        monkeypatch.setattr(classifiers, "CHOOSING", 100)
        labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2000, 1000, 1000]))
        chosen = classifiers.representative(labels)
        assert len(np.unique(chosen)) == 100
        np.testing.assert_allclose(np.bincount(labels[chosen]), [50, 25, 25], atol=1)

    @pytest.mark.parametrize(("valid", "r2"), [(1, 1), (1 / 3, 1 - (2 / 3) ** 2), (0.01, 0)])
    def test_the_number_of_neighbours_follows_valid(self, valid, r2):
        # At the ends of a line of 45 items, the mean of the nearest 5, 15 and 45 is ±1, ±1/3 and 0.
        train = np.arange(45.0)[:, None]
        values = np.concatenate([np.ones(5), np.zeros(35), -np.ones(5)])
        ends, signs = np.array([[0.0], [44.0]]), np.array([1.0, -1.0])
        prepared = Prepared(Features(train, ends, ends))
        assert regressors.knn_r2(prepared, Targets(values, valid * signs, signs)) == pytest.approx(r2)

    @pytest.mark.parametrize("penalty", regressors.PENALTIES)
    def test_the_ridge_follows_valid(self, penalty):
        # With 20 items at -1 and 1 and y = x, ridge shrinks the slope to 20 / (20 + penalty).
        x = np.where(np.arange(20) % 2 == 0, -1.0, 1.0)
        slope = 20 / (20 + penalty)
        prepared = Prepared(Features(*(x[:, None] for _ in range(3))))
        assert regressors.linear_r2(prepared, Targets(x, slope * x, x)) == pytest.approx(1 - (1 - slope) ** 2)


class TestRegress:
    def test_a_linear_target_is_read_exactly(self):
        targets = draw_targets()
        features = Features(*(np.stack([2 * split + 1, -split], axis=1) for split in targets))
        scores = regress(Prepared(features), targets)
        assert scores["linear"] > 0.999
        assert scores["knn"] > 0.99

    def test_an_unrelated_target_has_no_r2(self):
        scores = regress(Prepared(blobs(draw_labels())), draw_targets())
        assert all(score < 0.1 for score in scores.values())

    def test_only_as_many_neighbours_as_there_are(self):
        # All 15 items are in one place, so that 15 neighbours give their mean, 7, which is that of the test.
        features = Features(np.zeros((15, 1)), np.zeros((2, 1)), np.zeros((2, 1)))
        targets = Targets(np.arange(15.0), np.array([6.0, 8.0]), np.array([6.0, 8.0]))
        assert regressors.knn_r2(Prepared(features), targets) == pytest.approx(0.0)

    def test_several_targets_are_averaged(self):
        first, second = draw_targets(), Targets(*(split[::-1].copy() for split in draw_targets()))
        features = Features(*(split[:, None] for split in first))
        both = Targets(*(np.stack(pair, axis=1) for pair in zip(first, second, strict=True)))
        scores = [regressors.linear_r2(Prepared(features), some) for some in (first, second, both)]
        assert scores[2] == pytest.approx((scores[0] + scores[1]) / 2, abs=0.02)


class TestFactors:
    def test_categorical_and_continuous(self):
        labels, targets = draw_labels(), draw_targets()
        features = Features(
            *(np.column_stack([blob, value]) for blob, value in zip(blobs(labels), targets, strict=True))
        )
        scores, left_out = probe_factors(Prepared(features), {"shape": labels, "x": targets}, {})
        assert left_out == []
        assert scores["shape"] == {"linear": 1.0, "knn": 1.0}
        assert scores["x"]["linear"] > 0.999

    def test_a_circle_is_read_across_its_seam(self):
        rng = np.random.default_rng(0)
        hue = Targets(*(rng.uniform(0, 1, size).astype(np.float32) for size in SIZES))
        features = Features(*(on_circle(split, 1.0) for split in hue))
        circular = probe_factors(Prepared(features), {"hue": hue}, {"hue": 1.0, "rotation": 6.28})[0]["hue"]
        straight = probe_factors(Prepared(features), {"hue": hue}, {})[0]["hue"]
        assert circular["linear"] > 0.999
        assert straight["linear"] < 0.7  # of the sawtooth, a sine explains 6/π² = 0.61

    def test_on_circle_by_hand(self):
        np.testing.assert_allclose(
            on_circle(np.array([0.0, 1.0, 2.0, 4.0]), 4.0), [[1, 0], [0, 1], [-1, 0], [1, 0]], atol=1e-12
        )

    def test_what_cannot_be_probed_is_left_out_with_the_reason(self):
        labels, targets = draw_labels(), draw_targets()
        rare, broken = Labels(*(split.copy() for split in labels)), Targets(*(split.copy() for split in targets))
        rare.test[0] = 9
        broken.valid[0] = np.nan
        factors = {
            "shape": labels,
            "flat": Labels(*(0 * split for split in labels)),
            "still": Targets(*(0.0 * split for split in targets)),
            "seam": Targets(*(np.arange(size) % 2 * 1.0 for size in SIZES)),
            "rare": rare,
            "broken": broken,
        }
        scores, left_out = probe_factors(Prepared(blobs(labels)), factors, {"seam": 1.0})
        assert scores == {"shape": {"linear": 1.0, "knn": 1.0}}
        assert left_out == [
            "factor 'flat': the train split holds one class",
            "factor 'still': the values of the train split are constant: R² is undefined",
            "factor 'seam': the values of the train split are constant: R² is undefined",
            "factor 'rare': class 9 is in the test split but not in train",
            "factor 'broken': the values of the valid split are not all finite",
        ]

    def test_a_binary_attribute_has_balanced_accuracies(self):
        # One item in ten has it, and nothing tells which: always "no" is right nine times in ten, and by half.
        rare = Labels(*((np.arange(size) % 10 == 0).astype(np.int64) for size in SIZES))
        generator = np.random.default_rng(0)
        noise = Prepared(Features(*(generator.normal(size=(size, 3)) for size in SIZES)))
        scores = probe_factors(noise, {"hat": rare}, {})[0]["hat"]
        assert scores == {"linear": 0.9, "linear_balanced": 0.5, "knn": 0.9, "knn_balanced": 0.5}
        seen = Prepared(Features(*(split[:, None] + 0.01 * generator.normal(size=(len(split), 3)) for split in rare)))
        perfect = {"linear": 1.0, "linear_balanced": 1.0, "knn": 1.0, "knn_balanced": 1.0}
        assert probe_factors(seen, {"hat": rare}, {}) == ({"hat": perfect}, [])

    def test_balanced_accuracy_by_hand(self):
        labels, predictions = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
        assert classifiers.both_accuracies(predictions, labels) == pytest.approx((4 / 6, (3 / 4 + 1 / 2) / 2))

    def test_a_class_that_test_has_none_of_may_be_predicted(self, recwarn):
        assert classifiers.both_accuracies(np.array([0, 1]), np.array([0, 0])) == (0.5, 0.5)
        assert len(recwarn) == 0

    def test_lengths_name_the_factor(self):
        labels = draw_labels()
        with pytest.raises(InputError, match="valid split has 99 values of factor 'shape' for 100 items"):
            probe_factors(Prepared(blobs(labels)), {"shape": labels._replace(valid=labels.valid[1:])}, {})


LABEL_PROBES = {
    "classify": lambda prepared, labels: classify(prepared, labels),
    "few_label_curve": lambda prepared, labels: few_label_curve(prepared, labels, 0),
    "probe_factors": lambda prepared, labels: probe_factors(prepared, {"kind": labels}, {})[0]["kind"],
}


class TestLeakage:
    """Whatever is fitted to train and valid labels that say nothing finds nothing on test, whose labels are true."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls):
        labels = Labels(*(np.arange(size) % 10 for size in (1000, 300, 500)))
        generator = np.random.default_rng(0)
        centres = 2 * generator.normal(size=(10, 8))
        return Prepared(Features(*(centres[y] + generator.normal(size=(len(y), 8)) for y in labels))), labels

    @pytest.mark.parametrize("probe", LABEL_PROBES)
    def test_permuted_labels_give_chance(self, case, probe):
        prepared, labels = case
        scores = []
        for seed in range(3):
            generator = np.random.default_rng(seed)
            train, valid = generator.permutation(labels.train), generator.permutation(labels.valid)
            scores.append(LABEL_PROBES[probe](prepared, Labels(train, valid, labels.test)))
        # A fit may take a whole class for another: of ten, one is right in the mean, with a deviation of one.
        means = {key: np.mean([score[key] for score in scores]) for key in scores[0]}
        assert means == pytest.approx(dict.fromkeys(means, 0.1), abs=0.12)
        true = LABEL_PROBES[probe](prepared, labels)
        assert min(score for key, score in true.items() if key != "few_1") > 0.85

    def test_permuted_real_factors_have_no_r2(self, case):
        prepared, _ = case
        true = Targets(*(split[:, 0] for split in prepared.raw))
        generator = np.random.default_rng(0)
        permuted = Targets(generator.permutation(true.train), generator.permutation(true.valid), true.test)
        scores, _ = probe_factors(prepared, {"permuted": permuted, "true": true}, {})
        assert max(scores["permuted"].values()) < 0.1
        assert min(scores["true"].values()) > 0.8


ALL_PROBES = {
    "knn": lambda prepared, labels: classifiers.knn_accuracy(prepared, labels),
    "linear": lambda prepared, labels: classifiers.linear_accuracy(prepared, labels),
    "mlp": lambda prepared, labels: classifiers.mlp_accuracy(prepared, labels, 0),
    "ridge": lambda prepared, labels: regressors.linear_r2(prepared, prepared_targets(prepared)),
    "knn_r2": lambda prepared, labels: regressors.knn_r2(prepared, prepared_targets(prepared)),
    "few_labels": lambda prepared, labels: few_label_curve(prepared, labels, 0),
    "cluster": lambda prepared, labels: cluster(prepared, labels, 0),
}


class TestMemory:
    """Beside the representations, a probe needs one copy of them at most."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls):
        generator = np.random.default_rng(0)
        labels = Labels(*(np.arange(size) % 3 for size in (12_000, 1_000, 1_000)))
        features = Features(*(generator.standard_normal((len(split), 256), dtype=np.float32) for split in labels))
        for split, known in zip(features, labels, strict=True):
            split[:, 0] += known
        return features, labels

    @pytest.mark.parametrize("probe", ALL_PROBES)
    def test_the_peak_is_one_copy(self, case, probe, monkeypatch):
        # Those that work on so many items at most, whatever there are: in proportion to the 12,000 here.
        monkeypatch.setattr(classifiers, "CHOOSING", 2_000)
        monkeypatch.setattr(clustering, "MOST_ITEMS", 1_600)
        monkeypatch.setattr(classifiers, "MOST_EPOCHS", 2)
        features, labels = case
        tracemalloc.start()
        try:
            ALL_PROBES[probe](Prepared(features), labels)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < sum(split.nbytes for split in features)

    def test_contiguous_float32_is_not_copied(self, case):
        assert all(np.shares_memory(kept, given) for kept, given in zip(Prepared(case[0]).raw, case[0], strict=True))


def prepared_targets(prepared):
    return Targets(*(split[:, 0] + split[:, 1] ** 2 for split in prepared.raw))


class TestGuards:
    @pytest.fixture
    def labels(self):
        return draw_labels()

    def test_nan_features(self, labels):
        features = blobs(labels)
        features.valid[3, 1] = np.nan
        with pytest.raises(InputError, match="valid split hold NaN"):
            classify(Prepared(features), labels)

    def test_a_class_missing_from_train(self, labels):
        labels.test[0] = 9
        with pytest.raises(InputError, match="labels: class 9 is in the test split but not in train"):
            classify(Prepared(blobs(draw_labels())), labels)

    def test_one_class(self, labels):
        with pytest.raises(InputError, match="one class"):
            classify(Prepared(blobs(labels)), Labels(*(np.zeros_like(split) for split in labels)))

    def test_too_few_train_items(self, labels):
        short = labels._replace(train=labels.train[:14])
        with pytest.raises(InputError, match="14 items"):
            classify(Prepared(blobs(short)), short)

    def test_an_empty_split(self, labels):
        short = labels._replace(valid=labels.valid[:0])
        with pytest.raises(InputError, match="valid split is empty"):
            classify(Prepared(blobs(short)), short)

    def test_lengths_that_differ(self, labels):
        with pytest.raises(InputError, match="test split has 199 labels for 200 items"):
            classify(Prepared(blobs(labels)), labels._replace(test=labels.test[1:]))

    def test_numbers_of_features_that_differ(self, labels):
        features = blobs(labels)
        with pytest.raises(InputError, match=r"train have shape \(300, 5\), those of test \(200, 4\)"):
            classify(Prepared(features._replace(test=features.test[:, 1:])), labels)

    def test_nan_targets(self, labels):
        targets = draw_targets()
        targets.train[0] = np.inf
        with pytest.raises(InputError, match="targets: the values of the train split are not all finite"):
            regress(Prepared(blobs(labels)), targets)
