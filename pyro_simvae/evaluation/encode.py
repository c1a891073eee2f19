"""What a run makes of images, as arrays: in Python, and as the command `encode`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from pyro_simvae.components import Spec
from pyro_simvae.data import Split
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.encoders import OneModality, content_of, feature_encoder, latent_of
from pyro_simvae.evaluation.representations import Plain, evaluating
from pyro_simvae.fitted import items_of, open_run
from pyro_simvae.inference import rng
from pyro_simvae.inference.files import atomic

AT_ONCE = 1024
"""Images that are encoded at once."""


class Encoding(NamedTuple):
    """What a guide makes of n single views, as they are.

    Attributes:
        z: the loc of q(z | x), `(n, D)`: the representation.
        z_scale: its standard deviation, `(n, D)`; zero for a point guide, such as under a limit.
        content: the mean of q(content | z), `(n, C)`, from this one view; None where the guide has no content.
        features: what the encoder's projection head, or else its last layer, reads, `(n, F)`; None where there is no
            such encoder.
    """

    z: Tensor
    z_scale: Tensor
    content: Tensor | None
    features: Tensor | None


@torch.no_grad()
def encoding(guide: nn.Module, x: Tensor) -> Encoding:
    """What a guide makes of views `(n, *event)`, float32, images in [0, 1]; on the guide's device."""
    with evaluating(guide), rng.isolated(0):  # some guides draw where they are asked for a mean
        groups = x.unsqueeze(1)
        latent = latent_of(guide, groups)
        encoder, alone = feature_encoder(guide), isinstance(guide, OneModality)
        return Encoding(
            latent.mean.squeeze(1),
            latent.stddev.squeeze(1),
            None if alone else content_of(guide, groups, latent.mean),
            None if encoder is None else encoder.before_projection(x),
        )


def encode(
    run: str,
    data: Spec | None = None,
    split: Literal["train", "valid", "test"] = "test",
    weights: Literal["best", "last"] = "best",
    out: str | None = None,
) -> Path:
    """Write what a run's encoder makes of each item of a split, as arrays for your own analysis.

    Args:
        run: the run folder.
        data: other data of the same shape, such as folder:PATH; by default the run's own.
        split: of the data.
        weights: of the best epoch on the validation objective, or of the last.
        out: an .npz file that does not exist yet; by default RUN/encoded/SPLIT.npz, of the last epoch
            SPLIT-last.npz, which is written anew.

    Returns:
        The file, with an array for each attribute of `Encoding` that there is, "labels" `(M,)` where the data has them,
        and its factors, "factor_NAME" `(M,)`. Of paired data, "NAME_z" and "NAME_z_scale" for each modality.

    Raises:
        InputError: no such run; items of another shape; other data without `out`; `out` exists or is no .npz file.
    """
    name = split if weights == "best" else f"{split}-last"
    path = Path(out) if out else Path(run) / "encoded" / f"{name}.npz"
    if path.suffix != ".npz":
        raise InputError(f"{path} is no .npz file: give --out NAME.npz")
    if out and path.exists():
        raise InputError(f"{path} exists: choose another --out")
    if data is not None and out is None:
        raise InputError("where should the encoding of other data go? give --out NAME.npz")
    fitted, console = open_run(run, weights), Console(soft_wrap=True)
    items = items_of(fitted, data, split)
    guide, views = fitted.experiment.guide, fitted.experiment.views
    arrays: dict[str, np.ndarray] = {}
    shapes: Any = items.event_shape
    if isinstance(shapes, Mapping):
        paired: Any = items
        drawing: Any = views
        for name in shapes:
            alone = OneModality(guide, name, shapes)
            found = _all(alone, paired.splits[name], drawing.views[name].plain, f"encoding {name}", console)
            arrays |= {f"{name}_{key}": value for key, value in found.items() if key != "features"}
    else:
        arrays |= _all(guide, items, views.plain, "encoding", console)
    if items.labels is not None:
        arrays["labels"] = items.labels.numpy()
    arrays |= {f"factor_{name}": values.numpy() for name, values in items.factors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types its own flag only
    told = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
    console.print(f"encoded: {path}  ({told})", highlight=False)
    return path


def _all(guide: nn.Module, split: Split, plain: Plain, title: str, console: Console) -> dict[str, np.ndarray]:
    """The encoding of all items of a split, by name."""
    parts: dict[str, list[np.ndarray]] = {}
    index = torch.arange(len(split)).split(AT_ONCE)
    for rows in track(index, title, console=console, transient=True, disable=not console.is_terminal):
        for name, value in encoding(guide, plain(split.images(rows)))._asdict().items():
            if value is not None:
                parts.setdefault(name, []).append(value.float().numpy(force=True))
    return {name: np.concatenate(values) for name, values in parts.items()}
