"""The health of a representation: how much of its space it uses, and whether it has collapsed. No labels are needed."""

import numpy as np
import torch
from torch.nn import functional as F

EPSILON = 1e-7
"""ε of RankMe."""

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean above which a unit is active."""

MOST_POINTS = 4_000
"""Items between whose pairs uniformity is measured: evenly spaced, eight million pairs."""

ROWS = 4_096
"""Items that are cast to float64 at once."""

LEAST_SPREAD = 0.01
"""Share of the second moment of q(z) below which the spread of the locs counts as none."""

MOST_ALONG_ONE = 0.99
"""Share of the variance along one direction above which the representation counts as one number."""


def health(
    z: np.ndarray, views: np.ndarray | None, scale: np.ndarray | None, labels: np.ndarray | None
) -> dict[str, float]:
    """Label-free measures of a representation, and one that labels add.

    Args:
        z: locs of M items, `(M, D)`.
        views: locs of the J views of other or the same items, `(M', J, D)`; of single views, or with None, what
            compares views is left out.
        scale: of q(z | x), `(M, D)`, zero for a point guide; None for what has no posterior.
        labels: `(M,)`, or None.

    Returns:
        "rankme", in [0, D]; "active_units", in [0, D], and "active_share", in [0, 1]; "uniformity", in [-8, 0];
        "collapsed", 0 or 1.
        With views "between_within" (variance between groups over that within), >= 0, and "alignment", in [0, 4]; with
        a scale "posterior_scale" (its mean) and "relative_posterior_scale" (over the root mean variance of the locs),
        >= 0; with labels "between_within_classes", >= 0. A ratio whose denominator is zero is left out.
    """
    mean, covariance = moments(z)
    variance = covariance.diagonal()
    active = float((variance > ACTIVE_VARIANCE).sum())
    scores = {
        "rankme": rankme(z),
        "active_units": active,
        "active_share": active / len(variance),
        "uniformity": uniformity(z),
        "collapsed": float(collapsed(mean, covariance, scale)),
    }
    if views is not None and views.shape[1] > 1:
        scores["alignment"] = alignment(views)
        groups = np.repeat(np.arange(len(views)), views.shape[1])
        scores |= _ratio("between_within", *variance_components(views.reshape(len(groups), -1), groups))
    if scale is not None:
        scores["posterior_scale"] = float(scale.mean(dtype=np.float64))
        scores |= _ratio("relative_posterior_scale", scores["posterior_scale"], float(np.sqrt(variance.mean())))
    if labels is not None:
        scores |= _ratio("between_within_classes", *variance_components(z, labels))
    return scores


def rankme(z: np.ndarray) -> float:
    """Effective rank: exp of the entropy of the singular values, p_k = σ_k / Σσ + ε. Not centred, as published.

    Args:
        z: `(M, D)`. Zeros alone have rank 0.

    Source: Garrido et al. 2023 (arXiv:2210.02885), equation 1.
    """
    mean, covariance = moments(z)
    # From the D x D matrix of second moments: ε covers what squaring loses, and no copy of z is made.
    squares = np.linalg.eigvalsh(covariance + np.outer(mean, mean)).clip(min=0)[-min(z.shape) :]
    singular = np.sqrt(squares)
    if singular.sum() == 0:
        return 0.0
    share = singular / singular.sum() + EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(views: np.ndarray) -> float:
    """Mean squared distance of the views of a group on the unit sphere (α = 2), in [0, 4]; 0 where all agree.

    Args:
        views: `(M, J, D)`, J >= 2.

    Source: Wang and Isola 2020 (arXiv:2005.10242), equation of L_align.
    """
    unit = F.normalize(torch.from_numpy(views).double(), dim=-1)
    num_views = unit.shape[1]
    # Over the ordered pairs j ≠ k: Σ_jk |u_j - u_k|² = 2 J Σ_j |u_j|² - 2 |Σ_j u_j|².
    pairs = 2 * num_views * unit.square().sum((1, 2)) - 2 * unit.sum(1).square().sum(1)
    return float(pairs.mean().clamp(min=0) / (num_views * (num_views - 1)))


def uniformity(z: np.ndarray) -> float:
    """log of the mean of exp(-2 |u - v|²) over pairs of items on the unit sphere (t = 2), in [-8, 0]; 0: one point.

    Args:
        z: `(M, D)`, M >= 2; at most 4,000 of them are compared.

    Source: Wang and Isola 2020 (arXiv:2005.10242), equation of L_uniform.
    """
    rows = np.linspace(0, len(z) - 1, min(MOST_POINTS, len(z))).astype(np.int64)
    unit = F.normalize(torch.from_numpy(z[rows]), dim=-1)
    return float(torch.pdist(unit).square_().mul_(-2).exp_().mean(dtype=torch.float64).log())


def variance_components(z: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Variance between groups and within, of one-way random effects, summed over dimensions: unbiased estimates.

    For z_ij = c_i + s_ij they are those of c and of s: g² D and s² D of a Gaussian story's own latents. Between is
    0 for groups at random.

    Args:
        z: `(M, D)`.
        groups: which group each is of, `(M,)` integers.

    Returns:
        Between and within, each >= 0; (0, 0) where no group has two items, or where there is one group.

    Source: Searle, Casella and McCulloch 1992, *Variance Components*, chapter 3 (unbalanced analysis of variance).
    """
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count, num_groups = len(z), len(names)
    if num_groups in (1, count):
        return 0.0, 0.0
    means = np.zeros((num_groups, z.shape[1]))
    np.add.at(means, index, z)
    means /= sizes[:, None]
    within = sum(
        float(np.square(z[rows] - means[index[rows]]).sum())
        for rows in np.array_split(np.arange(count), -(-count // ROWS))
    ) / (count - num_groups)
    spread = (sizes[:, None] * np.square(means - sizes @ means / count)).sum() / (num_groups - 1)
    size = (count - np.square(sizes).sum() / count) / (num_groups - 1)  # that of every group, where all are equal
    return max(0.0, float(spread - within) / float(size)), within


def collapsed(mean: np.ndarray, covariance: np.ndarray, scale: np.ndarray | None) -> bool:
    """Whether items can hardly be told apart, or by one number only. It has collapsed where

        tr Cov(loc) < 1 % of E|z|² under q(z), = tr Cov(loc) + |E loc|² + E|scale|²,

    as at a point or where the posterior is the prior; or, for D > 1, where 99 % of tr Cov(loc) lie along one direction.

    Args:
        mean, covariance: of the locs, `(D,)` and `(D, D)`.
        scale: `(M, D)`, or None.
    """
    spread = covariance.trace()
    moment = spread + mean @ mean
    if scale is not None:
        moment += np.linalg.norm(scale) ** 2 / len(scale)
    if spread <= LEAST_SPREAD * moment:
        return True
    return len(mean) > 1 and bool(np.linalg.eigvalsh(covariance)[-1] > MOST_ALONG_ONE * spread)


def moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `(D,)` and covariance `(D, D)` of items `(M, D)`, divided by M, in float64 and without a copy of z."""
    mean = z.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((z.shape[1], z.shape[1]))
    for start in range(0, len(z), ROWS):
        rows = z[start : start + ROWS] - mean
        covariance += rows.T @ rows
    return mean, covariance / len(z)


def _ratio(name: str, numerator: float, denominator: float) -> dict[str, float]:
    return {name: numerator / denominator} if denominator > 0 else {}
