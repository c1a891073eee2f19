"""The classifiers that probe a representation. Whatever they choose, they choose on valid; each scores test once."""

import copy
from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier

from pyro_simvae.evaluation.features import NUM_NEIGHBOURS, Features, Labels, Prepared

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""C of the logistic regression, strongest penalty first: on a tie the simpler classifier wins."""

WEIGHT_DECAYS = (1e-1, 1e-4)
"""alpha of the MLP, strongest first."""

CHOOSING = 10_000
"""Train items that C and alpha are chosen with. The chosen classifier is then fitted to all: both are priors on the
weights whose strength scikit-learn counts against the whole data, so what suits the part suits the whole."""

HIDDEN = 128
MOST_EPOCHS = 30
PATIENCE = 3
"""Epochs without a better valid accuracy after which the MLP stops."""


def knn_accuracy(prepared: Prepared, labels: Labels) -> float:
    """Test accuracy of a vote among the 15 nearest train items (Euclidean, unscaled); the lowest class wins a tie."""
    classes, train = np.unique(labels.train, return_inverse=True)
    voters = train[prepared.test_neighbours[:, :NUM_NEIGHBOURS]]
    votes = np.stack([(voters == index).sum(axis=1) for index in range(len(classes))], axis=1)
    return float(accuracy_score(labels.test, classes[votes.argmax(axis=1)]))


def linear_accuracy(prepared: Prepared, labels: Labels) -> float:
    """Test accuracy of multinomial logistic regression on standardised features."""
    features, part = prepared.scaled, representative(labels.train)

    def fitted(penalty: float, items: np.ndarray | slice) -> LogisticRegression:
        # Beyond this tolerance MNIST's accuracies move by less than 0.001; the iterations are a bound, not a budget.
        model = LogisticRegression(C=penalty, tol=1e-3, max_iter=1000)
        return model.fit(features.train[items], labels.train[items])

    scores = [fitted(penalty, part).score(features.valid, labels.valid) for penalty in INVERSE_PENALTIES]
    chosen = fitted(INVERSE_PENALTIES[int(np.argmax(scores))], slice(None))
    return float(chosen.score(features.test, labels.test))


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
    """Indices of at most 10,000 items with the classes in proportion, `(m,)`: evenly spaced items, sorted by class."""
    by_class = np.argsort(labels, kind="stable")
    count = min(CHOOSING, len(labels))
    return by_class[np.linspace(0, len(labels) - 1, count).astype(np.int64)]


def _epochs(features: Features, labels: Labels, decay: float, seed: int) -> Iterator[MLPClassifier]:
    # About a hundred steps an epoch, so that small data sets are not stopped before they have learned anything.
    batch_size = int(np.clip(len(labels.train) // 100, min(16, len(labels.train)), 512))
    model = MLPClassifier(
        (HIDDEN,), alpha=decay, batch_size=batch_size, learning_rate_init=2e-3, random_state=seed
    )
    classes = np.unique(labels.train)
    for _ in range(MOST_EPOCHS):
        yield model.partial_fit(features.train, labels.train, classes=classes)
