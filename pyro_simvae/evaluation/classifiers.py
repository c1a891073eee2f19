"""The classifiers that probe a representation.

Whatever they choose, they choose on valid, and each scores test once. Those that iterate run on one BLAS
thread: their matrices are small, several threads mostly wait for each other (many times slower on a busy
machine), and the last digits would depend on the number of threads.
"""

import copy
from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from pyro_simvae.evaluation.features import NUM_NEIGHBOURS, Features, Labels, Prepared

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""C of the logistic regression, strongest penalty first: on a tie the simpler classifier wins."""

WEIGHT_DECAYS = (1e-1, 1e-4)
"""alpha of the MLP, strongest first."""

CHOOSING = 10_000
"""Train items that C and alpha are chosen with; the chosen classifier is then fitted to all of them."""

HIDDEN = 128
MOST_EPOCHS = 50
PATIENCE = 3
"""Epochs without a better valid accuracy after which the MLP stops."""


def knn_accuracy(prepared: Prepared, labels: Labels) -> float:
    """Test accuracy of a vote of the 15 nearest train items (Euclidean, unscaled); lowest class on a tie."""
    classes, train = np.unique(labels.train, return_inverse=True)
    voters = train[prepared.test_neighbours[:, :NUM_NEIGHBOURS]]
    votes = np.stack([(voters == index).sum(axis=1) for index in range(len(classes))], axis=1)
    return float(accuracy_score(labels.test, classes[votes.argmax(axis=1)]))


@threadpool_limits.wrap(limits=1, user_api="blas")
def linear_accuracy(prepared: Prepared, labels: Labels) -> float:
    """Test accuracy of multinomial logistic regression on standardised features."""
    features, part = prepared.scaled, representative(labels.train)

    def fitted(penalty: float, items: np.ndarray | slice) -> LogisticRegression:
        # A smaller tolerance moves MNIST's accuracies by less than 0.001; the iterations are only a bound.
        model = LogisticRegression(C=penalty, tol=1e-3, max_iter=1000)
        return model.fit(features.train[items], labels.train[items])

    scores = [fitted(penalty, part).score(features.valid, labels.valid) for penalty in INVERSE_PENALTIES]
    chosen = fitted(INVERSE_PENALTIES[int(np.argmax(scores))], slice(None))
    return float(chosen.score(features.test, labels.test))


@threadpool_limits.wrap(limits=1, user_api="blas")
def mlp_accuracy(prepared: Prepared, labels: Labels, seed: int) -> float:
    """Test accuracy of an MLP with one hidden layer on standardised features, stopped on valid."""
    features, part = prepared.scaled, representative(labels.train)
    small = Features(features.train[part], features.valid, features.test)
    small_labels = Labels(labels.train[part], labels.valid, labels.test)
    scores = [stopped_mlp(small, small_labels, decay, seed)[1] for decay in WEIGHT_DECAYS]
    model, _ = stopped_mlp(features, labels, WEIGHT_DECAYS[int(np.argmax(scores))], seed)
    return float(model.score(features.test, labels.test))


def stopped_mlp(features: Features, labels: Labels, decay: float, seed: int) -> tuple[MLPClassifier, float]:
    """An MLP as it was after its best epoch by valid accuracy, and that accuracy.

    Written out because MLPClassifier's own early stopping carves its validation items out of train.
    """
    best, best_score, waited = MLPClassifier(), -1.0, 0
    for model in _epochs(features, labels, decay, seed):
        score = float(model.score(features.valid, labels.valid))
        waited = 0 if score > best_score else waited + 1
        if score > best_score:
            # A copy: the next epoch changes the weights in place.
            best, best_score = copy.deepcopy(model), score
        if waited == PATIENCE:
            break
    return best, best_score


def representative(labels: np.ndarray) -> np.ndarray:
    """Indices `(m,)` of at most 10,000 items, classes in proportion: evenly spaced, sorted by class."""
    by_class = np.argsort(labels, kind="stable")
    count = min(CHOOSING, len(labels))
    return by_class[np.linspace(0, len(labels) - 1, count).astype(np.int64)]


def _epochs(features: Features, labels: Labels, decay: float, seed: int) -> Iterator[MLPClassifier]:
    # About a hundred steps an epoch, so that patience does not end on small data before anything is learned.
    batch_size = int(np.clip(len(labels.train) // 100, min(16, len(labels.train)), 512))
    model = MLPClassifier((HIDDEN,), alpha=decay, batch_size=batch_size, learning_rate_init=2e-3, random_state=seed)
    classes = np.unique(labels.train)
    for _ in range(MOST_EPOCHS):
        yield model.partial_fit(features.train, labels.train, classes=classes)
