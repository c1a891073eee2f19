"""What a limit may know of a batch besides its views."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Given:
    """What a limit may know of a batch besides its representations.

    Attributes:
        target: the teacher's representations of the same views, `(N, J, D)`.
        labels: class indices, `(N,)`.
        index: positions of the groups in the training set, `(N,)`.
    """

    target: Tensor | None = None
    labels: Tensor | None = None
    index: Tensor | None = None
