"""Groups whose views are of different kinds: an image and its caption, say. One view a modality."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_simvae.errors import InputError


class Modalities:
    """The views of N groups, one for each of M modalities: their shapes differ, so that no one tensor holds them.

    Programs ask of it what they ask of a tensor of views `(N, J, *event)`: its `shape` begins with (N, M), and its
    length is N.

    Args:
        views: {modality: `(N, *event)`}, two or more, in the story's order.
        present: which views are there, `(N, M)` bool; None where all are. What is missing is never looked at.

    Raises:
        InputError: fewer than two modalities, different numbers of groups, a mask of another shape or type, or a
            group without any view.
    """

    def __init__(self, views: Mapping[str, Tensor], present: Tensor | None = None) -> None:
        if len(views) < 2:
            raise InputError(
                f"modalities are {', '.join(views) or 'none'}: give two or more, or use a story of one kind of view"
            )
        sizes = {name: len(view) for name, view in views.items()}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{size} of {name}" for name, size in sizes.items())
            raise InputError(f"modalities must be paired, and there are {found}: give one of each to every group")
        self.views = dict(views)
        self.present: Tensor | None = None
        if present is not None:
            self._leave_out(present)

    def _leave_out(self, present: Tensor) -> None:
        if present.dtype != torch.bool or present.shape != self.shape:
            raise InputError(
                f"present is {present.dtype} of shape {tuple(present.shape)}: give bool of shape {tuple(self.shape)}, "
                "groups and modalities"
            )
        if not present.any(1).all():
            group = int((~present.any(1)).nonzero()[0])
            raise InputError(f"group {group} has no modality at all: leave it out")
        if present.all():
            return
        self.present = present
        # Zeros, so that no NaN under the mask reaches a gradient.
        self.views = {
            name: view.masked_fill(~rows.reshape(-1, *[1] * (view.dim() - 1)), 0)
            for (name, view), rows in zip(self.views.items(), present.unbind(1), strict=True)
        }

    @property
    def shape(self) -> torch.Size:
        """(N, M)."""
        return torch.Size((len(self), len(self.views)))

    def __len__(self) -> int:
        return len(next(iter(self.views.values())))

    def rows(self, name: str) -> Tensor | None:
        """In which groups a modality is present, `(N,)` bool; None for all."""
        return None if self.present is None else self.present[:, list(self.views).index(name)]

    def first(self, count: int) -> "Modalities":
        """The views of the first so many groups."""
        views = {name: view[:count] for name, view in self.views.items()}
        return Modalities(views, None if self.present is None else self.present[:count])

    def there(self, name: str) -> Tensor:
        """The views of a modality that are present, `(n, *event)`."""
        rows = self.rows(name)
        return self.views[name] if rows is None else self.views[name][rows]

    def to(self, device: torch.device | str) -> "Modalities":
        """The same views on another device."""
        views = {name: view.to(device) for name, view in self.views.items()}
        return Modalities(views, None if self.present is None else self.present.to(device))

    def check_names(self, names: Sequence[str]) -> None:
        """Raises InputError unless these are its modalities, in this order."""
        if list(self.views) != list(names):
            raise InputError(
                f"the views are {', '.join(self.views)}, and the story tells of {', '.join(names)}: "
                "give the story's modalities, in its order"
            )

    def new_zeros(self, size: Sequence[int]) -> Tensor:
        """Zeros of the first modality's type and device, as `torch.Tensor.new_zeros` has them."""
        return next(iter(self.views.values())).new_zeros(size)


def present(x: "Tensor | Modalities") -> Tensor | None:
    """Which views are there, `(N, J)` bool; None where all are, as always in a tensor."""
    return x.present if isinstance(x, Modalities) else None


def without_missing(mask: Tensor | None) -> AbstractContextManager[Any]:
    """Inside, sites lose the density of what is missing: it is marginalised. mask: the sites' batch shape, or None."""
    every: Any = mask
    return nullcontext() if mask is None else poutine.mask(mask=every)


def run_on(network: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor | None) -> Tensor:
    """network(x) where `rows` `(N,)` says so, and zeros elsewhere: what is missing is not run. None: all rows."""
    if rows is None:
        return network(x)
    y = network(x[rows])
    return y.new_zeros(len(x), *y.shape[1:]).index_put((rows,), y)


def mean_of_present(z: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over a group's present views for z `(..., J, D)` and mask `(..., J)`: `(..., 1, D)`."""
    if mask is None:
        return z.mean(-2, keepdim=True)
    total = z.masked_fill(~mask.unsqueeze(-1), 0).sum(-2, keepdim=True)
    return total / mask.sum(-1)[..., None, None]
