"""Cross-modal retrieval: whether an item's nearest neighbour in another modality is its own partner."""

import numpy as np
import torch
from torch import Tensor

RANKS = (1, 10)
"""k of recall at k."""

TOLERANCE = 1e-5
"""Relative difference of distances that rounding alone may make: such neighbours are equally near."""


def retrieve(queries: np.ndarray, candidates: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """Recall at k, and how often the nearest candidate is of the query's class; Euclidean distances.

    Candidates as near as the partner do not count against it. Where each class has one text, recall at 1 from image
    to text is so the accuracy of zero-shot classification.

    Args:
        queries: one modality's latents, `(M, D)`.
        candidates: another's of the same items in the same order, `(M, D)`.
        labels: `(M,)`, or None.

    Returns:
        {"recall_1", "recall_10", and with labels "class"}, each in [0, 1].

    Source: Radford et al. 2021 (arXiv:2103.00020), section 3.1.2, for zero-shot classification.
    """
    pool = torch.from_numpy(candidates).double()
    nearer, nearest = [], []
    for rows in torch.arange(len(pool)).split(1024):
        distance = torch.cdist(torch.from_numpy(queries[rows]).double(), pool)
        partner = distance.gather(1, rows[:, None])
        nearer.append((distance < (1 - TOLERANCE) * partner).sum(1))
        nearest.append(distance.argmin(1))
    before = torch.cat(nearer)
    scores = {f"recall_{k}": _share(before < k) for k in RANKS}
    if labels is not None:
        found = torch.from_numpy(labels)
        scores["class"] = _share(found[torch.cat(nearest)] == found)
    return scores


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
