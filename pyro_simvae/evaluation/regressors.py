"""The regressions that probe a representation. Choices are made on valid; each scores test once."""

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from pyro_simvae.evaluation.features import MOST_NEIGHBOURS, NUM_NEIGHBOURS, Prepared, Split, Targets

PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0)
"""alpha of the ridge regression, strongest first: on a tie the simpler regression wins."""

NEIGHBOURS = (MOST_NEIGHBOURS, NUM_NEIGHBOURS, 5)
"""k of the k-NN regression, smoothest first."""


def knn_r2(prepared: Prepared, targets: Targets) -> float:
    """Test R² of the mean over the k nearest train items (Euclidean, unscaled); k = 5, 15 or 45."""
    available = prepared.valid_neighbours.shape[1]
    choices = [count for count in NEIGHBOURS if count <= available]

    def predicted(neighbours: np.ndarray, count: int) -> np.ndarray:
        return targets.train[neighbours[:, :count]].mean(axis=1)

    scores = [r2_score(targets.valid, predicted(prepared.valid_neighbours, count)) for count in choices]
    chosen = choices[int(np.argmax(scores))]
    return float(r2_score(targets.test, predicted(prepared.test_neighbours, chosen)))


def linear_r2(prepared: Prepared, targets: Targets) -> float:
    """Test R² of ridge regression on standardised features."""
    centre = targets.train.mean(axis=0, dtype=np.float64)

    def fitted(train: np.ndarray) -> list[Ridge]:
        # Standardised features have no mean: the intercept is the targets', and nothing is left that needs a copy.
        models = (Ridge(alpha=penalty, fit_intercept=False, copy_X=False) for penalty in PENALTIES)
        return [model.fit(train, targets.train - centre) for model in models]

    def predicted(model: Ridge, split: Split) -> np.ndarray:
        return np.concatenate([model.predict(part) for part in prepared.parts(split)]) + centre

    models = fitted(prepared.standardised("train"))
    scores = [r2_score(targets.valid, predicted(model, "valid")) for model in models]
    return float(r2_score(targets.test, predicted(models[int(np.argmax(scores))], "test")))
