"""Do classes show as clusters, without a label to fit them? k-means and a Gaussian mixture against the labels."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.mixture import GaussianMixture

from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.features import Labels, Prepared, check_labels, in_parts, spread

MOST_ITEMS = 8_000
"""Train items that the clusters are fitted to."""

MOST_DIMENSIONS = 128
"""Dimensions that are clustered: a mixture's covariances grow with their square."""

STARTS = 10
"""Fits of k-means from different starts, of which the one with the least distances counts."""


def cluster(prepared: Prepared, labels: Labels, seed: int) -> dict[str, float]:
    """How well as many clusters as there are classes agree with them on test.

    Clusters are fitted, without labels, to at most 8,000 train items spread evenly, and test items are assigned to
    them. Features keep their units relative to each other; of more than 128, the leading 128 principal components are
    clustered. The mixture has full covariances, and starts from the clusters of k-means.

    Args:
        prepared: representations of the items.
        labels: each split `(M,)`; those of train tell no more than how many classes there are.
        seed: of the starts.

    Returns:
        {"kmeans_accuracy", "kmeans_nmi", "kmeans_ari", "gmm_accuracy", "gmm_nmi", "gmm_ari"}. Accuracy is under the
        best one-to-one matching of clusters and classes, in [0, 1]; mutual information, normalised by the mean
        entropy, in [0, 1]; the adjusted Rand index, 0 for chance, at most 1.

    Raises:
        InputError: As `classify`; or there are more classes than train items to fit clusters to.

    Source: for the matching, Xie, Girshick and Farhadi, Unsupervised Deep Embedding for Clustering Analysis (2016),
        equation 10.
    """
    check_labels(labels, prepared, "labels")
    count = len(np.unique(labels.train))
    part = spread(len(labels.train), MOST_ITEMS)
    if count > len(part):
        raise InputError(
            f"more clusters than points: {count} classes for {len(part)} train items: "
            "merge classes, or leave clusters out"
        )
    reduce = _reduction(prepared.raw.train[part], seed)
    train = reduce(prepared.raw.train[part])
    with warnings.catch_warnings():
        # A collapsed representation has fewer places than clusters; that shows in the score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(count, n_init=STARTS, random_state=seed).fit(train)
        mixture = _mixture(means, train.shape, seed).fit(train)
    scores = {}
    for name, model in (("kmeans", means), ("gmm", mixture)):
        test = in_parts(np.arange(len(labels.test)))
        assigned = np.concatenate([model.predict(reduce(prepared.raw.test[items])) for items in test])
        scores[f"{name}_accuracy"] = matched_accuracy(labels.test, assigned)
        scores[f"{name}_nmi"] = float(normalized_mutual_info_score(labels.test, assigned))
        scores[f"{name}_ari"] = float(adjusted_rand_score(labels.test, assigned))
    return scores


def matched_accuracy(labels: np.ndarray, assigned: np.ndarray) -> float:
    """The share of items in the cluster that is matched to their class, under the best one-to-one matching.

    Args:
        labels: classes `(M,)`.
        assigned: clusters `(M,)`.
    """
    counts = contingency_matrix(labels, assigned)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def _mixture(means: KMeans, shape: tuple[int, int], seed: int) -> GaussianMixture:
    """A mixture that starts at the centres of k-means, fitted to `shape`, with the variance left around them.

    Its own start is a single k-means, which often joins two clusters and splits a third.
    """
    count, dimensions = means.cluster_centers_.shape
    precision = shape[0] * dimensions / means.inertia_ if means.inertia_ > 0 else 1.0
    return GaussianMixture(
        count,
        weights_init=np.full(count, 1 / count),
        means_init=means.cluster_centers_,
        precisions_init=np.broadcast_to(precision * np.eye(dimensions), (count, dimensions, dimensions)),
        random_state=seed,
    )


def _reduction(train: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Brings features `(m, F)` into the form that is clustered: float64, on these train items of mean variance 1."""
    wanted = min(MOST_DIMENSIONS, len(train))
    principal = None
    if train.shape[1] > wanted:
        with np.errstate(invalid="ignore"):  # of constant features: shares of no variance
            principal = PCA(wanted, random_state=seed).fit(train)
    first = (train if principal is None else principal.transform(train)).astype(np.float64)
    # One scale for all dimensions: what is added to the mixture's variances, 1e-6, is relative to it.
    centre, scale = first.mean(axis=0), float(np.sqrt(first.var(axis=0).mean())) or 1.0

    def reduce(features: np.ndarray) -> np.ndarray:
        return ((features if principal is None else principal.transform(features)) - centre) / scale

    return reduce
