"""The device that a command runs on, as Lightning's Fabric."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from pyro_simvae.errors import InputError
from pyro_simvae.inference.settings import Hardware


def fabric_of(hardware: Hardware, folder: Path | None = None) -> Fabric:
    """One device with its precision, and a log in `folder`/tensorboard where a folder is given.

    Raises:
        InputError: an accelerator that is not here.
    """
    precision: Any = {"32": "32-true", "tf32": "32-true", "bf16-mixed": "bf16-mixed"}[hardware.precision]
    logger = None if folder is None else TensorBoardLogger(folder, name="tensorboard", version="")
    try:
        fabric = Fabric(accelerator=hardware.accelerator, devices=1, precision=precision, loggers=logger)
    except Exception as error:  # Fabric raises its own kinds where a device is absent
        raise InputError(
            f"accelerator {hardware.accelerator} cannot be used here ({str(error).splitlines()[0]}): "
            "use --hardware.accelerator auto"
        ) from error
    if fabric.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = hardware.precision == "tf32"
    return fabric
