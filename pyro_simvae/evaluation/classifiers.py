"""The classifiers that probe a representation.

Whatever they choose, they choose on valid, and each scores test once. Those that iterate run on one BLAS
thread: their matrices are small, several threads mostly wait for each other (many times slower on a busy
machine), and the last digits would depend on the number of threads. Only logistic regression holds all of train
standardised; beside it, what grows with the number of classes.
"""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from pyro_simvae.evaluation.features import NUM_NEIGHBOURS, Labels, Prepared, Split, in_parts, spread

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
    """Test accuracy of `knn_predictions`."""
    return float(accuracy_score(labels.test, knn_predictions(prepared, labels)))


def linear_accuracy(prepared: Prepared, labels: Labels) -> float:
    """Test accuracy of `linear_predictions`."""
    return float(accuracy_score(labels.test, linear_predictions(prepared, labels)))


def knn_predictions(prepared: Prepared, labels: Labels) -> np.ndarray:
    """Test classes `(M,)` by vote of the 15 nearest train items (Euclidean, unscaled); lowest class on a tie."""
    classes, train = np.unique(labels.train, return_inverse=True)
    voters = train[prepared.test_neighbours[:, :NUM_NEIGHBOURS]]
    votes = np.stack([(voters == index).sum(axis=1) for index in range(len(classes))], axis=1)
    return np.asarray(classes[votes.argmax(axis=1)])


@threadpool_limits.wrap(limits=1, user_api="blas")
def linear_predictions(prepared: Prepared, labels: Labels) -> np.ndarray:
    """Test classes `(M,)` by multinomial logistic regression on standardised features."""

    def fitted(penalty: float, items: np.ndarray | None) -> LogisticRegression:
        # A smaller tolerance moves MNIST's accuracies by less than 0.001; the iterations are only a bound.
        model = LogisticRegression(C=penalty, tol=1e-3, max_iter=1000)
        return model.fit(prepared.standardised("train", items), labels.train if items is None else labels.train[items])

    part = representative(labels.train)
    scores = [_valid_accuracy(fitted(penalty, part), prepared, labels) for penalty in INVERSE_PENALTIES]
    return _predictions(fitted(INVERSE_PENALTIES[int(np.argmax(scores))], None), prepared, "test")


@threadpool_limits.wrap(limits=1, user_api="blas")
def mlp_accuracy(prepared: Prepared, labels: Labels, seed: int) -> float:
    """Test accuracy of an MLP with one hidden layer on standardised features, stopped on valid."""
    part, everything = representative(labels.train), np.arange(len(labels.train))
    scores = [stopped_mlp(prepared, labels, part, decay, seed)[1] for decay in WEIGHT_DECAYS]
    model, _ = stopped_mlp(prepared, labels, everything, WEIGHT_DECAYS[int(np.argmax(scores))], seed)
    return float(accuracy_score(labels.test, _predictions(model, prepared, "test")))


def both_accuracies(predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, and balanced accuracy: the mean over the classes in `labels` of the share found; `(M,)` each."""
    with warnings.catch_warnings():
        # A rare class may be predicted where test has none of it.
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true", UserWarning)
        balanced = balanced_accuracy_score(labels, predictions)
    return float(accuracy_score(labels, predictions)), float(balanced)


def stopped_mlp(
    prepared: Prepared, labels: Labels, items: np.ndarray, decay: float, seed: int
) -> tuple[MLPClassifier, float]:
    """An MLP fitted to some train items, as it was after its best epoch by valid accuracy, and that accuracy.

    Written out because MLPClassifier's own early stopping carves its validation items out of train.
    """
    best, best_score, waited = MLPClassifier(), -1.0, 0
    for model in _epochs(prepared, labels, items, decay, seed):
        score = _valid_accuracy(model, prepared, labels)
        waited = 0 if score > best_score else waited + 1
        if score > best_score:
            # A copy: the next epoch changes the weights in place.
            best, best_score = copy.deepcopy(model), score
        if waited == PATIENCE:
            break
    return best, best_score


def representative(labels: np.ndarray) -> np.ndarray:
    """Indices `(m,)` of at most 10,000 items, classes in proportion: evenly spaced, sorted by class."""
    return np.asarray(np.argsort(labels, kind="stable")[spread(len(labels), CHOOSING)])


def _epochs(prepared: Prepared, labels: Labels, items: np.ndarray, decay: float, seed: int) -> Iterator[MLPClassifier]:
    # About a hundred steps an epoch, so that patience does not end on small data before anything is learned.
    batch_size = int(np.clip(len(items) // 100, min(16, len(items)), 500))
    model = MLPClassifier((HIDDEN,), alpha=decay, batch_size=batch_size, learning_rate_init=2e-3, random_state=seed)
    classes, generator = np.unique(labels.train), np.random.default_rng(seed)
    for _ in range(MOST_EPOCHS):
        for part in in_parts(generator.permutation(items)):
            model.partial_fit(prepared.standardised("train", part), labels.train[part], classes=classes)
        yield model


def _valid_accuracy(model: Any, prepared: Prepared, labels: Labels) -> float:
    return float(accuracy_score(labels.valid, _predictions(model, prepared, "valid")))


def _predictions(model: Any, prepared: Prepared, split: Split) -> np.ndarray:
    return np.concatenate([model.predict(part) for part in prepared.parts(split)])
