"""Posterior predictive checks: whether views that the story makes are like those it was given, by named statistics."""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from pyro_simvae.errors import InputError

Statistic = Callable[[np.ndarray], np.ndarray]
"""From groups of views `(N, J, *event)` to a number for each group, `(N,)`."""


def ink(x: np.ndarray) -> np.ndarray:
    """Mean of all values: how much of an image is bright."""
    return _by_view(x).mean((1, 2))


def contrast(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the values of a view, mean over views."""
    return _by_view(x).std(2).mean(1)


def group_spread(x: np.ndarray) -> np.ndarray:
    """Squared difference of two views of a group, mean over their pairs and values: twice the variance. J >= 2."""
    return 2 * _by_view(x).var(1, ddof=1).mean(1)


def symmetry(x: np.ndarray) -> np.ndarray:
    """Correlation of an image with its mirror, left to right, in [-1, 1], mean over views; 1 for a blank image."""
    image, mirrored = _by_view(x), _by_view(x[..., ::-1])
    variance = image.var(2)  # that of the mirrored, too
    difference = np.square(image - mirrored).mean(2)
    return (1 - difference / (2 * np.where(variance > 0, variance, 1))).mean(1)


def edges(x: np.ndarray) -> np.ndarray:
    """Absolute difference of pixels beside or above each other, mean over an image."""
    across, down = (np.abs(np.diff(x.astype(np.float64), axis=axis)).mean((1, 2, 3, 4)) for axis in (-1, -2))
    return (across + down) / 2


STATISTICS: dict[str, Statistic] = {
    "ink": ink,
    "contrast": contrast,
    "group spread": group_spread,
    "symmetry": symmetry,
    "edges": edges,
}

OF_IMAGES = ("symmetry", "edges")


def statistics_for(num_views: int, event_shape: tuple[int, ...]) -> dict[str, Statistic]:
    """Those of `STATISTICS` that say something of groups of J views: images (C, H, W), or values of another shape."""
    left_out = {*(OF_IMAGES if len(event_shape) != 3 else ()), *(("group spread",) if num_views == 1 else ())}
    return {name: statistic for name, statistic in STATISTICS.items() if name not in left_out}


def check(x: np.ndarray, x_rep: np.ndarray, statistics: Mapping[str, Statistic] | None = None) -> xr.Dataset:
    """Compares statistics of views with those of views that the story makes from the posterior of the same groups.

        p_i = P( T(x_rep_i) > T(x_i) ) + ½ P( T(x_rep_i) = T(x_i) )

    Near 0 the story has too little of a statistic, near 1 too much. Since the posterior has seen the views, p-values of
    a story that holds lie closer to ½ than uniform ones do.

    Args:
        x: `(N, J, *event)`.
        x_rep: S replications, `(S, N, J, *event)`.
        statistics: by name; by default those of `statistics_for`.

    Returns:
        observed (statistic, group), replicated (statistic, draw, group), p_value (statistic, group), and overall
        (statistic), the p-value of the statistic's mean over groups.

    Raises:
        InputError: replications of another shape, none at all, or a statistic that is not one number a group.

    Source: Gelman, Meng and Stern 1996, *Posterior predictive assessment of model fitness via realized discrepancies*;
        Meng 1994, *Posterior predictive p-values*, for their distribution.
    """
    if x_rep.shape[1:] != x.shape or len(x_rep) == 0:
        raise InputError(f"x_rep has shape {x_rep.shape} for x {x.shape}: give (S, *x.shape), S >= 1")
    if statistics is None:
        statistics = statistics_for(x.shape[1], x.shape[2:])
    observed = np.stack([_applied(name, statistic, x) for name, statistic in statistics.items()])
    # Draw by draw, since a statistic may copy its views.
    replicated = np.stack(
        [np.stack([_applied(name, statistic, draw) for draw in x_rep]) for name, statistic in statistics.items()]
    )
    return xr.Dataset(
        {
            "observed": (("statistic", "group"), observed),
            "replicated": (("statistic", "draw", "group"), replicated),
            "p_value": (("statistic", "group"), _exceeding(replicated, observed)),
            "overall": (("statistic",), _exceeding(replicated.mean(2), observed.mean(1))),
        },
        coords={"statistic": list(statistics)},
    )


def _exceeding(replicated: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The share of replications `(T, S, ...)` above the observed `(T, ...)`, ties half."""
    above = np.sign(replicated - observed[:, None])
    shares: np.ndarray = ((1 + above) / 2).mean(1)
    return shares


def _applied(name: str, statistic: Statistic, x: np.ndarray) -> np.ndarray:
    found = np.asarray(statistic(x), dtype=np.float64)
    if found.shape != x.shape[:1]:
        raise InputError(
            f"the statistic {name!r} gives shape {found.shape} for views {x.shape}: let it give one number a group, "
            f"{x.shape[:1]}"
        )
    return found


def _by_view(x: np.ndarray) -> np.ndarray:
    """`(N, J, P)`, in float64."""
    return x.reshape(*x.shape[:2], -1).astype(np.float64)
