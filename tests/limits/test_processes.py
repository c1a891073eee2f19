"""Two processes with half a batch each are one process with the whole: loss, and gradient."""

import os
import subprocess
import sys

import pytest
import torch
from torch import distributed

from pyro_simvae import limits

N, J, D = 8, 2, 3
ARGUMENTS = {"npid": {"num_items": N}, "softmax": {"num_classes": 3}}


def batch():
    """Representations, the teacher's, labels and indices of N groups."""
    generator = torch.Generator().manual_seed(0)
    z, target = torch.randn(2, N, J, D, dtype=torch.float64, generator=generator)
    return {"z": z, "target": target, "labels": torch.arange(N) % 3, "index": torch.arange(N)}


def loss_and_gradient(name, rows):
    torch.manual_seed(0)  # of the state that a limit makes
    given = {key: value[rows] for key, value in batch().items()}
    z = given.pop("z").requires_grad_()
    limit = limits.LIMITS[name](**ARGUMENTS.get(name, {}))
    loss = limit.loss(z, **given).total
    loss.backward()
    return loss.detach(), z.grad


def work(rank, folder):
    """One process of two; run by `halves` with this file as the program."""
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    found = {name: loss_and_gradient(name, slice(rank * N // 2, (rank + 1) * N // 2)) for name in limits.LIMITS}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an ordinary end


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """What each of two processes finds, by name."""
    folder = tmp_path_factory.mktemp("processes")
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", limits.LIMITS)
def test_halves_make_the_whole(halves, name):
    loss, gradient = loss_and_gradient(name, slice(N))
    losses, gradients = zip(*(half[name] for half in halves), strict=True)
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    torch.testing.assert_close(torch.cat(gradients) / 2, gradient)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
