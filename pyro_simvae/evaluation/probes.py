"""What a representation knows: how well simple predictors read labels and generative factors from it."""

from collections.abc import Mapping

import numpy as np

from pyro_simvae.evaluation.classifiers import (
    both_accuracies,
    knn_accuracy,
    knn_predictions,
    linear_accuracy,
    linear_predictions,
    mlp_accuracy,
)
from pyro_simvae.evaluation.features import (
    Features,
    Labels,
    Prepared,
    Targets,
    check_labels,
    check_lengths,
    check_targets,
    labels_problem,
    targets_problem,
)
from pyro_simvae.evaluation.kernel import kernel_r2
from pyro_simvae.evaluation.regressors import knn_r2, linear_r2

__all__ = ["Features", "Labels", "Prepared", "Targets", "classify", "probe_factors", "regress"]


def classify(features: Prepared, labels: Labels, seed: int = 0) -> dict[str, float]:
    """Test accuracies of three classifiers, in [0, 1].

    k-NN (k = 15) reads the features as they are; the others read them standardised by train. The penalty of
    the logistic regression, the weight decay of the MLP and its last epoch are chosen by valid accuracy.

    Args:
        features: share one between the probes of a representation.
        labels: each split `(M,)`.
        seed: of the MLP's initial weights and batches; the other two are deterministic.

    Returns:
        {"knn", "linear", "mlp"}.

    Raises:
        InputError: Labels and features do not match, a class is missing from train, or train has only one.
    """
    check_labels(labels, features, "labels")
    return {
        "knn": knn_accuracy(features, labels),
        "linear": linear_accuracy(features, labels),
        "mlp": mlp_accuracy(features, labels, seed),
    }


def regress(features: Prepared, targets: Targets) -> dict[str, float]:
    """Test R² of two regressions, at most 1; several targets are averaged.

    Args:
        features: share one between the probes of a representation.
        targets: each split `(M,)` or `(M, T)`.

    Returns:
        {"linear", "knn", "kernel"}: ridge regression on standardised features; the mean over the nearest train items;
        kernel ridge regression. Penalties, the number of neighbours and the bandwidth are chosen by R² on valid.

    Raises:
        InputError: Targets and features do not match, a split's targets are constant, or one is not finite.
    """
    check_targets(targets, features, "targets")
    return {
        "linear": linear_r2(features, targets),
        "knn": knn_r2(features, targets),
        "kernel": kernel_r2(features, targets),
    }


def probe_factors(
    features: Prepared, factors: Mapping[str, Labels | Targets], periods: Mapping[str, float]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """How well each known factor can be read: accuracy if it is integers, R² if it is real.

    A periodic factor f is predicted as the point (cos, sin)(2π f / period): its two ends are the same place.

    Args:
        features: share one between the probes of a representation.
        factors: by name; each split `(M,)`, int64, or `(M,)` or `(M, T)`, float32.
        periods: the period of each factor that goes round; others in it are ignored.

    Returns:
        {factor: {"linear", "knn"}}, of a real factor "kernel" too, of a factor of two classes "linear_balanced" and
        "knn_balanced", balanced accuracies; and a line for each factor that is left out, since train holds one class
        of it, not every class of valid and test, or its values are constant or not finite: "factor 'shape': the train
        split holds one class".

    Raises:
        InputError: A factor has more or fewer values than there are items.
    """
    scores, left_out = {}, []
    for name, values in factors.items():
        check_lengths(values, features.raw, f"values of factor {name!r}")
        if np.issubdtype(values.train.dtype, np.integer):
            labels = Labels(*values)
            problem = labels_problem(labels)
            found = {} if problem else _read_classes(features, labels)
        else:
            targets = Targets(*values)
            if name in periods:
                targets = Targets(*(on_circle(split, periods[name]) for split in values))
            problem = targets_problem(targets)
            found = {} if problem else regress(features, targets)
        if problem:
            left_out.append(f"factor {name!r}: {problem}")
        else:
            scores[name] = found
    return scores, left_out


def _read_classes(features: Prepared, labels: Labels) -> dict[str, float]:
    predictions = {"linear": linear_predictions(features, labels), "knn": knn_predictions(features, labels)}
    scores = {}
    for probe, predicted in predictions.items():
        plain, balanced = both_accuracies(predicted, labels.test)
        scores[probe] = plain
        if len(np.unique(labels.train)) == 2:
            scores[f"{probe}_balanced"] = balanced
    return scores


def on_circle(values: np.ndarray, period: float) -> np.ndarray:
    """values: `(M,)`. Returns `(M, 2)`, (cos, sin) of the angle of each on a circle of length `period`."""
    angle = 2 * np.pi * values / period
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
