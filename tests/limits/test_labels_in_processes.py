"""SupCon and NPID in two processes are what they are in one with the joined batch: run as a script, one process of two.

A limit's loss is averaged over processes, and so are gradients.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from pyro_simvae import limits
from pyro_simvae.limits.given import Given

LABELS = torch.tensor([0, 1, 2, 0, 0, 3, 1, 4])
INDEX = torch.tensor([3, 0, 9, 4, 1, 8, 2, 7])
LIMITS = {
    "pairwise": (lambda: limits.supcon(), "labels", LABELS),
    "leave-one-out": (lambda: limits.supcon(content="leave-one-out"), "labels", LABELS),
    "npid": (lambda: limits.npid(10), "index", INDEX),
}


def step(name, rows):
    """Loss, gradient and the memory after a step, of the batch's rows."""
    torch.manual_seed(0)
    make, observed, values = LIMITS[name]
    z = torch.randn(8, 2, 4, dtype=torch.float64)[rows].requires_grad_()
    limit = make()
    loss = limit.loss(z, **{observed: values[rows]}).total
    limit.update(limit.geometry(z).detach(), Given(**{observed: values[rows]}))
    loss.backward()
    return {"loss": loss.detach(), "gradient": z.grad, "memory": getattr(limit, "memory", None)}


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """What each of two processes finds, by name."""
    folder = tmp_path_factory.mktemp("processes")
    processes = [subprocess.Popen([sys.executable, "-P", __file__, str(folder), str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", LIMITS)
def test_two_processes_are_one(name, halves):
    parts, whole = [half[name] for half in halves], step(name, slice(None))
    torch.testing.assert_close((parts[0]["loss"] + parts[1]["loss"]) / 2, whole["loss"])
    gradient = torch.cat([part["gradient"] for part in parts]) / 2
    torch.testing.assert_close(gradient, whole["gradient"], rtol=1e-7, atol=1e-12)
    for part in parts:
        torch.testing.assert_close(part["memory"], whole["memory"])


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save({name: step(name, slice(4 * rank, 4 * rank + 4)) for name in LIMITS}, folder / f"{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an ordinary end
