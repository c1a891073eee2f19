"""Slots: several worker processes, of which one may die, and which end with the process that began them."""

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

import pytest
import torch

from pyro_simvae.comparison import slots
from pyro_simvae.comparison.slots import Slot, run
from pyro_simvae.errors import InputError

PID = "__import__('os').getpid()"
SLEEP = "__import__('time').sleep(600)"


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().split()[2] != "Z" if os.path.exists(f"/proc/{pid}/stat") else True


def test_errors_and_dead_workers_fail_their_item_only():
    items = [PID, "__import__('torch').get_num_threads()", "1 / 0", "__import__('os')._exit(3)", PID, "2 + 2"]
    results = dict(zip(range(6), (None,) * 6, strict=True))
    found = [(item, result) for item, result in run(eval, items, [Slot(1)])]
    results = [result for _, result in found]
    assert [item for item, _ in found] == items  # one slot keeps the order
    assert results[1] == 1
    assert isinstance(results[2], ZeroDivisionError)
    assert isinstance(results[3], BrokenProcessPool)
    assert results[4] != results[0]  # another worker, which goes on
    assert results[5] == 4
    assert not is_alive(results[4])


def test_closing_ends_running_work_at_once():
    with closing(run(eval, [PID, SLEEP], [Slot(1)])) as results:
        _, pid = next(results)
        assert is_alive(pid)
        start = time.monotonic()
    assert time.monotonic() - start < slots.PATIENCE / 2
    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed():
    code = f"""
from pyro_simvae.comparison.slots import Slot, run
for item, result in run(eval, [{PID!r}, {SLEEP!r}], [Slot(1)]):
    print(result, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_an_interrupted_worker_interrupts_all():
    with pytest.raises(KeyboardInterrupt):
        list(run(eval, ["(_ for _ in ()).throw(KeyboardInterrupt)"], [Slot(1)]))


def test_without_gpus_there_is_a_slot_a_core_but_no_more_than_cells(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(slots, "num_cores", lambda: 32)
    assert slots.slots(None, 100) == [Slot(4)] * 8
    assert slots.slots(None, 2) == [Slot(16)] * 2
    assert slots.slots(16, 100) == [Slot(2)] * 16
    monkeypatch.setattr(slots, "num_cores", lambda: 2)
    assert slots.slots(None, 100) == [Slot(1)] * 2
    assert slots.slots(3, 100) == [Slot(1)] * 3


def test_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(slots, "num_cores", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots.slots(None, 9) == [Slot(4, "0"), Slot(4, "1")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert slots.slots(4, 9) == [Slot(2, "3"), Slot(2, "GPU-5")] * 2


def test_no_jobs_are_refused():
    with pytest.raises(InputError, match="jobs is 0: give 1 or more"):
        slots.slots(0, 3)
