"""How few labels suffice: logistic regression from a handful of labelled items a class."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from threadpoolctl import threadpool_limits

from pyro_simvae.evaluation.features import Labels, Prepared, check_labels

COUNTS = (1, 5, 10, 100)
"""Labelled items a class."""

DRAWS = 5
"""Draws of the labelled items that a score is the mean of."""

INVERSE_PENALTY = 1.0
"""C, that is, a standard normal prior on the weights. Fixed: a valid split to choose it with would be more labels."""


@threadpool_limits.wrap(limits=1, user_api="blas")
def few_label_curve(prepared: Prepared, labels: Labels, seed: int) -> dict[str, float]:
    """Test accuracies of logistic regression from 1, 5, 10 and 100 labelled train items a class.

    Features are standardised by all of train, which needs no labels; nothing is chosen on valid.

    Args:
        prepared: representations of the items.
        labels: each split `(M,)`.
        seed: of the draws of labelled items.

    Returns:
        {"few_1", "few_5", "few_10", "few_100"}, each a mean over 5 draws, in [0, 1]; without those that a class of
        train has too few items for.

    Raises:
        InputError: As `classify`.
    """
    check_labels(labels, prepared, "labels")
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels.train == each) for each in np.unique(labels.train)]
    test = prepared.standardised("test")

    def accuracy(count: int) -> float:
        chosen = np.concatenate([generator.choice(items, count, replace=False) for items in classes])
        model = LogisticRegression(C=INVERSE_PENALTY, tol=1e-3, max_iter=1000)
        model.fit(prepared.standardised("train", chosen), labels.train[chosen])
        return float(accuracy_score(labels.test, model.predict(test)))

    available = [count for count in COUNTS if count <= min(map(len, classes))]
    return {f"few_{count}": float(np.mean([accuracy(count) for _ in range(DRAWS)])) for count in available}
