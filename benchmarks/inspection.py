"""What inspecting a run costs: `inspect` of 1,000 images with 200 draws, and 60,000 x 100 draws streamed to Zarr.

    python benchmarks/inspection.py runs/mnist [--part inspect] [--part stream]

Each part runs in a process of its own, so that its peak memory is its own; "open" is that of the run alone, data and
model. Times are wall-clock seconds of the whole command, start-up included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

INSPECT = "import pyro_simvae; pyro_simvae.inspect({run!r}, out={out!r}, "
PARTS = {
    "open": "from pyro_simvae.fitted import open_run; from pathlib import Path; open_run(Path({run!r}))",
    "inspect": INSPECT + "num_images=1000, num_draws=200)",
    "stream": INSPECT + "split='train', num_images=60_000, num_draws=100, store='zarr', densities=False)",
    "stream_densities": INSPECT + "split='train', num_images=4_000, num_draws=100, store='zarr')",
}


def measure(name: str, run: str, folder: Path) -> dict[str, float]:
    """Runs a part; its seconds, its peak memory in MiB, and the size of what it wrote in MiB."""
    out = folder / name
    code = PARTS[name].format(run=run, out=str(out))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the part {name} failed")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
    return {"seconds": time.perf_counter() - start, "peak_mib": usage.ru_maxrss / 1024, "written_mib": size / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.part or PARTS:
            found = measure(name, arguments.run, Path(folder))
            print(name, json.dumps({key: round(value, 1) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
