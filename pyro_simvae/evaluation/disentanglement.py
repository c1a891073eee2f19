"""Does each dimension hold one known factor, and each factor sit in one dimension? MIG and DCI."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import entropy
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import mutual_info_score

from pyro_simvae.evaluation.features import Features, Labels, Targets, check_lengths, spread

BINS = 20
"""Bins of equal width of each dimension and of each real factor, for mutual information."""

MOST_ITEMS = 5_000
"""Items of train that trees are grown on, and of test that they and mutual information are read on."""

TREES = 20
LEAF = 5
"""Items that a leaf holds at least: smaller ones split on noise, which would count as importance."""


def disentangle(features: Features, factors: Mapping[str, Labels | Targets], seed: int) -> dict[str, float]:
    """Mutual information gap, and disentanglement, completeness and informativeness, over all factors together.

    With I the mutual information on test, H the entropy, and R_jk the importance of dimension j to the trees that
    predict factor k from all D dimensions (extremely randomised trees, grown on train; importances add up to 1 over j):

        MIG              = mean_k (I(z_j'; v_k) - I(z_j''; v_k)) / H(v_k),         j', j'' the two with the most
        disentanglement  = Σ_j ρ_j (1 - H_K(R_j· / Σ_k R_jk)),                     ρ_j = Σ_k R_jk / ΣΣ R
        completeness     = mean_k (1 - H_D(R_·k / Σ_j R_jk))
        informativeness  = mean_k of the trees' test accuracy (integers) or R² (real)

    where H_K has its logarithm to base K, the number of factors. At most 5,000 items of a split count, spread evenly.
    On few items the histograms overestimate I, though for all dimensions alike.

    Args:
        features: of the items; test is scored, valid is not looked at.
        factors: by name, int64 `(M,)`, or float32 `(M,)` or `(M, T)`, whose columns are factors of their own. Those
            that are constant or not finite in train or test are left out.
        seed: of the trees.

    Returns:
        {"mig", "dci_disentanglement", "dci_completeness", "dci_informativeness"}; the first three in [0, 1]. Without
        disentanglement where there is one factor, without completeness where there is one dimension; empty where no
        factor is left.

    Raises:
        InputError: A factor has more or fewer values than there are items.

    Source: Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders (2018), equation 6; Eastwood
        and Williams, A Framework for the Quantitative Evaluation of Disentangled Representations (2018), section 2.
    """
    grown_on, read_on = spread(len(features.train), MOST_ITEMS), spread(len(features.test), MOST_ITEMS)
    train, test = features.train[grown_on], features.test[read_on]
    known = [Factor(factor.train[grown_on], factor.test[read_on]) for factor in _columns(features, factors)]
    known = [factor for factor in known if factor.varies]
    if not known:
        return {}
    importances, scores = zip(*(_grown(train, test, factor, seed) for factor in known), strict=True)
    matrix = np.stack(importances, axis=1)
    found = {"mig": gap(test, [factor.test for factor in known]), "dci_informativeness": float(np.mean(scores))}
    if matrix.shape[1] > 1:
        found["dci_disentanglement"] = disentanglement(matrix)
    if matrix.shape[0] > 1:
        found["dci_completeness"] = completeness(matrix)
    return found


def gap(features: np.ndarray, factors: list[np.ndarray]) -> float:
    """The mutual information gap.

    Args:
        features: `(M, D)`; a lone dimension is compared with nothing.
        factors: each `(M,)`, not constant; integers are classes, real numbers are binned.
    """
    dimensions = [_binned(column) for column in features.T]
    gaps = []
    for factor in factors:
        classes = factor if np.issubdtype(factor.dtype, np.integer) else _binned(factor)
        shared = sorted((mutual_info_score(classes, dimension) for dimension in dimensions), reverse=True)
        second = shared[1] if len(shared) > 1 else 0.0
        gaps.append((shared[0] - second) / mutual_info_score(classes, classes))
    return float(np.mean(gaps))


def disentanglement(importances: np.ndarray) -> float:
    """Eastwood and Williams' D of importances `(D, K)`, K > 1; dimensions that matter to no factor have no weight."""
    totals = importances.sum(axis=1)
    used = totals > 0
    if not used.any():
        return 0.0
    single = 1 - entropy(importances[used], axis=1, base=importances.shape[1])
    return float(np.average(single, weights=totals[used]))


def completeness(importances: np.ndarray) -> float:
    """Eastwood and Williams' C of importances `(D, K)`, D > 1; 0 for a factor that no dimension matters to."""
    read = importances.sum(axis=0) > 0
    single = 1 - entropy(importances[:, read], axis=0, base=importances.shape[0])
    return float(np.sum(single) / importances.shape[1])


class Factor(NamedTuple):
    """One factor of the items of two splits, each `(M,)`."""

    train: np.ndarray
    test: np.ndarray

    @property
    def varies(self) -> bool:
        """Whether it has more than one value in both splits, and none that is not finite."""
        return all(bool(np.isfinite(values).all() and np.ptp(values) > 0) for values in self)


def _columns(features: Features, factors: Mapping[str, Labels | Targets]) -> Iterator[Factor]:
    for name, values in factors.items():
        check_lengths(values, features, f"values of factor {name!r}")
        if values.train.ndim == 1:
            yield Factor(values.train, values.test)
        else:
            yield from (Factor(*columns) for columns in zip(values.train.T, values.test.T, strict=True))


def _grown(train: np.ndarray, test: np.ndarray, factor: Factor, seed: int) -> tuple[np.ndarray, float]:
    """Importances `(D,)` of trees that predict a factor, and their score on test."""
    kind: Any = ExtraTreesClassifier if np.issubdtype(factor.train.dtype, np.integer) else ExtraTreesRegressor
    # Every dimension is offered at every split: of a few at random, one that tells nothing may be used.
    trees = kind(TREES, max_features=None, min_samples_leaf=LEAF, random_state=seed).fit(train, factor.train)
    return np.asarray(trees.feature_importances_), float(trees.score(test, factor.test))


def _binned(values: np.ndarray) -> np.ndarray:
    return np.digitize(values, np.histogram_bin_edges(values, BINS)[1:-1])
