"""Which devices a command gets, and why it may get none."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from pyro_simvae.errors import InputError
from pyro_simvae.inference import hardware
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.settings import Hardware


@pytest.fixture(autouse=True)
def started_by_hand(monkeypatch):
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def test_one_device_by_default():
    fabric = fabric_of(Hardware(accelerator="cpu"))
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs GNU's C library")
def test_freed_memory_is_kept():
    """A tensor of 64 MiB, 16,384 pages, made and freed again and again, in a process of its own."""
    program = """
import resource, sys, torch
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.settings import Hardware

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = pages()
fabric_of(Hardware("cpu"))
pages()
print(first, pages())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 10


def test_one_device_of_a_run_on_many():
    many = Hardware("cpu", "tf32", devices=4, num_nodes=2)
    assert many.one_device == Hardware("cpu", "tf32")


@pytest.mark.parametrize("name", ["devices", "num_nodes"])
def test_fewer_than_one(name):
    with pytest.raises(InputError, match=f"hardware.{name} is 0: give 1 or more"):
        Hardware(**{name: 0})


def test_more_processes_than_cores(monkeypatch):
    monkeypatch.setattr(hardware, "_cores", lambda: 3)
    monkeypatch.setattr(sys, "argv", [__file__])
    with pytest.raises(InputError, match="devices is 4, one process each, and there are 3 cores: give --devices 3"):
        fabric_of(Hardware("cpu", devices=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_devices_than_gpus():
    here = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"devices is {here + 1}, and there are {here} here: give --devices {here}"):
        fabric_of(Hardware("cuda", devices=here + 1))


def test_machines_that_nothing_has_started():
    with pytest.raises(InputError, match="start the fit on each by torchrun --nnodes 2 --nproc_per_node 4 "):
        fabric_of(Hardware("cpu", devices=4, num_nodes=2))


def test_a_prompt_cannot_start_processes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c"])
    with pytest.raises(InputError, match="fit by pyro-simvae fit --devices, or from a script"):
        fabric_of(Hardware("cpu", devices=2))


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"},
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    ],
)
def test_other_processes_than_were_started(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(
        InputError, match="4 processes were started, and devices x num_nodes is 3 x 2: give --devices 2"
    ):
        fabric_of(Hardware("cpu", devices=3, num_nodes=2))
