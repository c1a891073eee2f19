"""A run folder as the experiment that it holds, with its fitted weights."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from pyro_simvae import experiment as exp
from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.svi import load_weights


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


def weights_file(folder: Path, weights: Literal["best", "last"]) -> Path:
    """Where a run has these weights."""
    return folder / ("weights.safetensors" if weights == "best" else "checkpoints/last.ckpt")


def load(experiment: exp.Experiment, folder: Path, weights: Literal["best", "last"] = "best") -> None:
    """Puts a run's weights into its pair. Raises InputError where there are none, or they are another's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(folder, weights)
    if weights == "last":
        load_weights(experiment.pair, load_checkpoint(path)["weights"], path)
        return
    if not path.is_file():
        raise InputError(f"{folder} has no weights yet: finish it with fit --config {folder}/config.yaml --resume true")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or no safetensors file: restore it from a copy, or fit anew") from error
    load_weights(experiment.pair, state, path)
