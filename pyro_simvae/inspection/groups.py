"""The groups of views that an inspection looks at, and what is known of them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_simvae.data import Split, Views
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.modalities import Modalities


class Groups(NamedTuple):
    """N groups of views.

    Attributes:
        x: `(N, J, *event)`, or modalities.
        positions: in the split, `(N,)`.
        known: "label" `(N,)`, factors `(N,)` or `(N, J)`, and what the views were drawn with, `(N, J)` or `(N, J, n)`.
        observed: what the pair observes besides the views.
    """

    x: Tensor | Modalities
    positions: Tensor
    known: dict[str, np.ndarray]
    observed: dict[str, Tensor]

    def first(self, count: int) -> "Groups":
        """The first so many."""
        x = self.x[:count] if isinstance(self.x, Tensor) else self.x.first(count)
        known, observed = ({n: v[:count] for n, v in part.items()} for part in (self.known, self.observed))
        return Groups(x, self.positions[:count], known, observed)  # type: ignore[arg-type]  # one loop over two kinds


def chosen(split: Split, count: int, positions: Sequence[int] | None = None) -> Tensor:
    """The positions given, or those of so many items, evenly spaced; of all, if the split has no more. `(N,)`.

    Raises:
        InputError: no items, or a position outside of the split.
    """
    if positions is None:
        if count < 1:
            raise InputError(f"num_images is {count}: give 1 or more")
        return torch.linspace(0, len(split) - 1, min(count, len(split))).round().long()
    index = torch.tensor(list(positions), dtype=torch.long)
    if len(index) == 0 or not (int(index.min()) >= 0 and int(index.max()) < len(split)):
        raise InputError(f"images are at {list(positions)}: give positions from 0 to {len(split) - 1}")
    return index


def groups_of(
    split: Split, views: Views, index: Tensor, num_views: int, seed: int, observes: Collection[str] = ()
) -> Groups:
    """A group of views of each item at `index` `(N,)`.

    Args:
        split: the items.
        views: draws the views.
        index: positions in the split.
        num_views: J.
        seed: of the views.
        observes: what the pair asks for; labels are given where the data has them.
    """
    with rng.isolated(seed):
        (batch,) = split.batches(index, len(index), num_views)
        x, drawn = views(batch.images, num_views)
    known: dict[str, np.ndarray] = {}
    if split.labels is not None:
        known["label"] = split.labels[index].numpy()
    known |= {name: values[index].numpy() for name, values in split.factors.items()}
    # Where the data draws the views itself, each has factors of its own.
    own = batch.factors if isinstance(x, Tensor) and batch.images.shape[1] > 1 else {}
    # A "/" would be a group of the tree.
    known |= {name.replace("/", "_"): values.cpu().numpy() for name, values in (drawn | own).items()}
    observed = {}
    if "labels" in observes and split.labels is not None:
        observed["labels"] = split.labels[index].to(x.device)
    return Groups(x, index, known, observed)
