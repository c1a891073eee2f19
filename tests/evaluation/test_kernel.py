"""The kernel-ridge probe on representations whose score is known."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

from pyro_simvae.evaluation import kernel
from pyro_simvae.evaluation.features import Features, Prepared, Targets
from pyro_simvae.evaluation.kernel import kernel_r2
from pyro_simvae.evaluation.regressors import linear_r2

SIZES = (400, 150, 300)


@pytest.fixture
def latents():
    """Two independent standard normals for each item of the three splits."""
    generator = np.random.default_rng(0)
    return [generator.standard_normal((size, 2)).astype(np.float32) for size in SIZES]


def test_a_perfect_representation_scores_one(latents):
    assert kernel_r2(Prepared(Features(*latents)), Targets(*latents)) > 0.999


def test_units_of_features_and_targets_do_not_matter(latents):
    expected = kernel_r2(Prepared(Features(*latents)), Targets(*latents))
    moved = Features(*(5 + np.array([100, 0.01], np.float32) * split for split in latents))
    targets = Targets(*(1000 + 30 * split for split in latents))
    assert kernel_r2(Prepared(moved), targets) == pytest.approx(expected, abs=1e-4)


def test_what_no_line_fits_is_read(latents):
    targets = Targets(*(np.cos(2 * split[:, 0]) for split in latents))
    prepared = Prepared(Features(*latents))
    assert linear_r2(prepared, targets) < 0.05
    assert kernel_r2(prepared, targets) > 0.98


def test_noise_and_permuted_targets_score_nothing(latents):
    generator = np.random.default_rng(1)
    noise = Features(*(generator.standard_normal((size, 5)).astype(np.float32) for size in SIZES))
    assert abs(kernel_r2(Prepared(noise), Targets(*latents))) < 0.05
    permuted = Targets(*(generator.permutation(split) for split in latents))
    assert abs(kernel_r2(Prepared(Features(*latents)), permuted)) < 0.05


def test_a_constant_representation_scores_as_the_mean(latents):
    constant = Features(*(np.ones((size, 3), np.float32) for size in SIZES))
    assert kernel_r2(Prepared(constant), Targets(*latents)) == pytest.approx(0, abs=0.05)


def test_the_score_is_a_mean_over_targets(latents):
    first = Features(*(split[:, :1] for split in latents))
    both = kernel_r2(Prepared(first), Targets(*latents))
    assert both == pytest.approx(0.5, abs=0.03)


def test_it_is_scikit_learns_at_the_choice_of_valid(latents):
    prepared = Prepared(Features(*latents))
    targets = Targets(*(np.sin(3 * split[:, 1]) for split in latents))
    train, valid, test = (prepared.standardised(name) for name in ("train", "valid", "test"))
    loc, scale = targets.train.mean(), targets.train.std()
    best = (-np.inf, np.nan)
    for bandwidth in kernel.BANDWIDTHS:
        for alpha in kernel.PENALTIES:
            model = KernelRidge(alpha=alpha, kernel="rbf", gamma=bandwidth / 2).fit(
                train, (targets.train - loc) / scale
            )
            found = [
                r2_score(y, loc + scale * model.predict(x)) for x, y in ((valid, targets.valid), (test, targets.test))
            ]
            best = max(best, tuple(found))
    assert kernel_r2(prepared, targets) == pytest.approx(best[1], abs=1e-3)


def test_large_train_splits_are_thinned_evenly(latents, monkeypatch):
    monkeypatch.setattr(kernel, "MOST_ITEMS", 200)
    # Items in order of the target: the first 200 would know nothing of its upper half.
    train = latents[0][np.argsort(latents[0][:, 0])]
    features = Prepared(Features(train, *latents[1:]))
    targets = Targets(train[:, 0], latents[1][:, 0], latents[2][:, 0])
    assert kernel_r2(features, targets) > 0.98
