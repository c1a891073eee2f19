"""One encoder a modality."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities
from pyro_simvae.networks.base import Encoder


class Encoders(nn.Module):
    """An encoder for each modality, into latents of one space. A missing modality is not encoded.

    Args:
        encoders: {modality: encoder}, in the order of the views.

    Raises:
        InputError: encoders of different latent dimensions.
    """

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        dims = {name: encoder.latent_dim for name, encoder in encoders.items()}
        if len(set(dims.values())) != 1:
            raise InputError(f"modalities share one latent space, and the encoders have dimensions {dims}: give one")
        self.encoders = nn.ModuleDict(encoders)
        self.latent_dim = next(iter(dims.values()))

    def forward(self, x: Modalities) -> tuple[Tensor, Tensor]:
        """Loc and scale > 0, `(N, M, D)`; those of missing views mean nothing."""
        x.check_names(list(self.encoders))
        outputs = [self._encode(encoder, x.views[name], x.rows(name)) for name, encoder in self.encoders.items()]
        loc, scale = zip(*outputs, strict=True)
        return torch.stack(loc, 1), torch.stack(scale, 1)

    def projected(self, widths: Sequence[int]) -> "Encoders":
        """The same features, each with a projection head of these hidden widths and a new last layer."""
        encoders: Any = self.encoders
        return Encoders({name: encoder.projected(widths) for name, encoder in encoders.items()})

    def _encode(self, encoder: Any, view: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        if rows is None:
            loc, scale = encoder(view)
            return loc, scale
        loc, scale = encoder(view[rows])
        shape = len(view), self.latent_dim
        return loc.new_zeros(shape).index_put((rows,), loc), scale.new_ones(shape).index_put((rows,), scale)
