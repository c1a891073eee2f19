"""The kernel-ridge probe: can factors be read from a representation by a smooth function, linear or not?"""

import itertools

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

from pyro_simvae.evaluation.features import Prepared, Split, Targets, spread

MOST_ITEMS = 2_000
"""Train items that the regression is fitted on: its cost grows with their cube."""

PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""alpha, strongest first: on a tie the simpler regression wins."""

BANDWIDTHS = (0.03, 0.1, 0.3, 1.0)
"""gamma times the number of features, smoothest first: distances grow with that number."""


def kernel_r2(prepared: Prepared, targets: Targets) -> float:
    """Test R² of kernel ridge regression on standardised features, a mean over the targets.

        ŷ(f) = Σ_m w_m exp(-gamma |f - f_m|²),     m over 2,000 train items spread evenly, or all if there are fewer

    alpha and gamma are those with the best R² on valid; test is scored once. The matrices over the 2,000 items take
    about 100 MB, however many items there are; in float32 they would be half as large, and ill-conditioned.

    Args:
        prepared: representations of the items.
        targets: what is to be read; standardised for the regression, which has no intercept.

    Returns:
        At most 1; 0 is the score of the mean.
    """
    loc, scale = targets.train.mean(0), targets.train.std(0)
    chosen = spread(len(targets.train), MOST_ITEMS)
    train = prepared.standardised("train", chosen).astype(np.float64)
    known = (targets.train[chosen] - loc) / scale

    def fitted(bandwidth: float, penalty: float) -> KernelRidge:
        return KernelRidge(alpha=penalty, kernel="rbf", gamma=bandwidth / train.shape[1]).fit(train, known)

    def score(model: KernelRidge, split: Split, values: np.ndarray) -> float:
        predicted = [model.predict(part) for part in prepared.parts(split)]
        return float(r2_score((values - loc) / scale, np.concatenate(predicted)))

    grid = list(itertools.product(BANDWIDTHS, PENALTIES))
    # One at a time: each holds a matrix over the train items.
    best = int(np.argmax([score(fitted(*choice), "valid", targets.valid) for choice in grid]))
    return score(fitted(*grid[best]), "test", targets.test)
