"""The devices that a command runs on, as Lightning's Fabric."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.accelerators.cpu import CPUAccelerator
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from pyro_simvae.errors import InputError, first_line
from pyro_simvae.inference import heap
from pyro_simvae.inference.settings import Hardware

TORCHRUN = "torchrun --nnodes {nodes} --nproc_per_node {devices} --rdzv_backend c10d --rdzv_endpoint HOST:29500"


def fabric_of(hardware: Hardware, folder: Path | None = None) -> Fabric:
    """The devices with their precision, and a log in `folder`/tensorboard where a folder is given.

    What a device needs for the whole process is set too: TensorFloat-32 on a GPU; that freed memory is kept on a CPU.

    Raises:
        InputError: an accelerator that is not here, or more devices than are here; several processes that nothing
            has started and that Fabric cannot start, or not as many as were started.
    """
    precision: Any = {"32": "32-true", "tf32": "32-true", "bf16-mixed": "bf16-mixed"}[hardware.precision]
    logger = None if folder is None else TensorBoardLogger(folder, name="tensorboard", version="")
    _check_started(hardware)
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            precision=precision,
            loggers=logger,
        )
    except Exception as error:  # Fabric raises its own kinds where a device is absent
        if 0 < (here := torch.cuda.device_count()) < _number(hardware.devices) and hardware.accelerator != "cpu":
            raise InputError(
                f"devices is {hardware.devices}, and there are {here} here: give --devices {here}"
            ) from error
        raise InputError(
            f"accelerator {hardware.accelerator} cannot be used here ({first_line(error)}): "
            "use --hardware.accelerator auto"
        ) from error
    cores = _cores()
    if isinstance(fabric.accelerator, CPUAccelerator) and _number(hardware.devices) > cores:
        raise InputError(
            f"devices is {hardware.devices}, one process each, and there are {cores} cores: give --devices {cores}"
        )
    if fabric.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = hardware.precision == "tf32"
    else:
        heap.keep_freed()
    return fabric


def _check_started(hardware: Hardware) -> None:
    """Raises InputError where the processes asked for are neither those that were started nor can be started."""
    devices, nodes = hardware.devices, hardware.num_nodes
    started = _started()
    if started is not None:
        if devices != "auto" and started != devices * nodes:
            raise InputError(
                f"{started} processes were started, and devices x num_nodes is {devices} x {nodes}: "
                f"give --devices {max(1, started // nodes)}"
            )
        return
    if "LOCAL_RANK" in os.environ:  # started by Fabric, or by hand
        return
    if nodes > 1:
        raise InputError(
            f"num_nodes is {nodes}, and nothing says where the other machines are: start the fit on each by "
            f"{TORCHRUN.format(nodes=nodes, devices=devices)} -m pyro_simvae.cli fit ..., or by srun in a SLURM job"
        )
    if _number(devices) > 1 and (hasattr(sys, "ps1") or not Path(sys.argv[0]).is_file()):
        raise InputError(
            f"devices is {devices}, and other processes run the command anew, which a notebook or a prompt does not "
            "have: fit by pyro-simvae fit --devices, or from a script"
        )


def _started() -> int | None:
    """How many processes torchrun or srun has started; None without them."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect() and "SLURM_STEP_NUM_TASKS" in os.environ:
        return int(os.environ["SLURM_STEP_NUM_TASKS"])
    return None


def _number(devices: int | str) -> int:
    return devices if isinstance(devices, int) else 1


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
