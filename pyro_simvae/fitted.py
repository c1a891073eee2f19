"""A run folder as the experiment that it holds, with its fitted weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from pyro_simvae import components
from pyro_simvae import experiment as exp
from pyro_simvae.components import Spec
from pyro_simvae.data import Split
from pyro_simvae.data.seen import check_seen
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.svi import load_weights

if TYPE_CHECKING:
    from pyro_simvae.evaluation.encode import Encoding


class Run(NamedTuple):
    """What a run folder holds.

    Attributes:
        folder: where it is.
        config: what the fit was asked for.
        experiment: data, views and the fitted pair.
    """

    folder: Path
    config: exp.Config
    experiment: exp.Experiment

    def encode(self, images: Tensor) -> "Encoding":
        """What the fitted guide makes of images as they are.

        Args:
            images: `(n, *event)` of the run's shape, uint8 in [0, 255] or float in [0, 1]; vectors as they are.

        Returns:
            z, z_scale, content and features, on the device of the pair.

        Raises:
            InputError: images of another shape, or a run on paired data.
        """
        from pyro_simvae.evaluation.encode import encoding

        pair, views = self.experiment.pair, self.experiment.views
        expected: Any = self.experiment.splits.train.event_shape
        if isinstance(expected, Mapping):
            raise InputError("the run is on paired data: encode it by the command, pyro-simvae encode")
        if tuple(images.shape[1:]) != tuple(expected):
            shape = "(n, " + ", ".join(map(str, expected)) + ")"
            raise InputError(f"the images are {tuple(images.shape)}: give {shape}, as the run has them")
        device = next(pair.parameters(), torch.zeros(())).device
        return encoding(pair.guide, views.plain(images.to(device)))


def open_run(folder: Path | str, weights: Literal["best", "last"] = "best") -> Run:
    """The run in a folder, with the weights of its best epoch on the validation objective, or of its last.

    The pair is in eval mode, so that what it makes of a view does not depend on the others of a batch.

    Raises:
        InputError: the folder is no run, has no weights yet, or holds those of another.
    """
    folder = Path(folder)
    config = exp.read_run(folder)
    config = replace(config, hardware=config.hardware.one_device)  # what looks at a run has one process
    experiment = exp.build(config)
    load(experiment, folder, weights)
    experiment.pair.eval()
    return Run(folder, config, experiment)


def items_of(run: Run, data: Spec | None, split: str) -> Split:
    """A split to look at; it and the pair go to the device of the run's hardware.

    Args:
        run: the run.
        data: other data than its own, of the same shape.
        split: train, valid or test.

    Raises:
        InputError: an unknown split; items of another shape.
    """
    splits = run.experiment.splits if data is None else components.build("data", data).load()
    if split not in splits._fields:
        raise unknown_name("split", split, splits._fields)
    found: Split = getattr(splits, split)
    expected, shape = run.experiment.splits.train.event_shape, found.event_shape
    if shape != expected:
        raise InputError(f"the images are {shape}, those of the run {expected}: give images of the run's shape")
    device = fabric_of(run.config.hardware).device
    run.experiment.pair.to(device)
    return found.to(device)


def weights_file(folder: Path, weights: Literal["best", "last"]) -> Path:
    """Where a run has these weights."""
    return folder / ("weights.safetensors" if weights == "best" else "checkpoints/last.ckpt")


def load(experiment: exp.Experiment, folder: Path, weights: Literal["best", "last"] = "best") -> None:
    """Puts a run's weights into its pair. Raises InputError where there are none, or they are another's."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path, (train, valid, _) = weights_file(folder, weights), experiment.splits
    if weights == "last":
        state = load_checkpoint(path)
        check_seen(state.get("data", {}), train, valid, folder)
        load_weights(experiment.pair, state["weights"], path)
        return
    if not path.is_file():
        raise InputError(f"{folder} has no weights yet: finish it with fit --config {folder}/config.yaml --resume true")
    try:
        with safe_open(path, framework="pt") as file:
            kept = file.metadata() or {}
        check_seen(kept, train, valid, folder)
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or no safetensors file: restore it from a copy, or fit anew") from error
    load_weights(experiment.pair, state, path)
