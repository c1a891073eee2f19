"""A million images from WebDataset shards with bounded memory: images a second and resident memory.

    python benchmarks/streaming.py [--count 1000000] [--out streaming.json]

Writes synthetic 32 x 32 RGB images (uncompressed PPM members) into shards in a temporary folder, which it deletes, and
walks shuffled epochs of two views an image (preset crop), each in a process of its own: at first use (shards listed,
images decoded into the cache), from the cache, and decoding every epoch without a cache. Every image carries its
number, and each epoch is checked to hold every training image once.

Memory is the largest sum over the process and its workers, looked at every 0.1 s: as resident sets (pages that they
share count in each) and as proportional sets (a page that k processes share counts 1/k in each).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch

from pyro_simvae.data import Views, preset
from pyro_simvae.data.shards import Shards
from pyro_simvae.inference import heap

SHAPE, SHARD, GROUPS, VIEWS, BOUND = (3, 32, 32), 10_000, 256, 2, 2.0
PHASES = {"first use": "cold", "from the cache": "warm", "decoded every epoch": "no"}


def write_shards(folder: Path, count: int) -> str:
    """Shards of noise, an image's number in its first four bytes; returns their pattern."""
    from webdataset import TarWriter

    folder.mkdir()
    numbers = np.random.default_rng(0)
    height, width = SHAPE[1:]
    for first in range(0, count, SHARD):
        pixels = numbers.integers(0, 256, (min(SHARD, count - first), height * width * 3), dtype=np.uint8)
        pixels[:, :4] = np.arange(first, first + len(pixels), dtype="<u4")[:, None].view(np.uint8)
        with TarWriter(str(folder / f"train-{first // SHARD:06d}.tar")) as shard:
            for i, image in enumerate(pixels):
                content = b"P6 %d %d 255\n" % (width, height) + image.tobytes()
                shard.write({"__key__": f"{first + i:09d}", "ppm": content})
    return f"{folder}/train-{{000000..{(count - 1) // SHARD:06d}}}.tar"


def walk(pattern: str, cache: str, workers: int) -> dict[str, float]:
    """Loads the shards and walks one shuffled epoch of the training images."""
    start = time.perf_counter()
    train = Shards(pattern, workers=workers, cache=cache).load().train
    loaded = time.perf_counter()
    views = Views(preset("crop"), SHAPE)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    seen = np.empty(len(train), np.uint32)
    done, in_views = 0, 0.0
    for batch in train.batches(order, GROUPS, VIEWS):
        # The number's four bytes are red, green, blue of the first pixel and red of the second.
        pixels = batch.images[:, 0].permute(0, 2, 3, 1).flatten(1)[:, :4].contiguous().numpy()
        seen[done : done + len(pixels)] = pixels.view("<u4")[:, 0]
        done += len(pixels)
        before = time.perf_counter()
        x, _ = views(batch.images, VIEWS)
        in_views += time.perf_counter() - before
        if x.shape != (len(pixels), VIEWS, *SHAPE):
            raise SystemExit(f"views of shape {tuple(x.shape)}")
    end = time.perf_counter()
    if done != len(train) or len(np.unique(seen)) != done:
        raise SystemExit("the epoch did not hold every image once")
    return {
        "kind": type(train).__name__,
        "images": done,
        "load_seconds": loaded - start,
        "epoch_seconds": end - loaded,
        "views_seconds": in_views,
        "images_per_second": done / (end - loaded),
        "images_per_second_without_views": done / (end - loaded - in_views),
    }


def watch(command: list[str]) -> tuple[str, dict[str, float]]:
    """What a command prints, and the peak memory of it and its workers in GB."""
    peak = {"resident_gb": 0.0, "proportional_gb": 0.0, "processes": 0.0}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            infos = [p.memory_full_info() for p in (process, *process.children(recursive=True))]
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # one has just ended
            continue
        peak["resident_gb"] = max(peak["resident_gb"], sum(info.rss for info in infos) / 1e9)
        peak["proportional_gb"] = max(peak["proportional_gb"], sum(info.pss for info in infos) / 1e9)
        peak["processes"] = max(peak["processes"], len(infos))
        time.sleep(0.1)
    if child.returncode or child.stdout is None:
        raise SystemExit(f"{' '.join(command)} failed")
    return child.stdout.read(), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made: 7 KB an image")
    parser.add_argument("--walk", nargs=2, metavar=("PATTERN", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.walk:
        heap.keep_freed()  # as `fit` does
        print(json.dumps(walk(*arguments.walk, arguments.workers)))
        return

    result: dict[str, object] = {
        "count": arguments.count,
        "bound_gb": BOUND,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "webdataset", "pillow", "numpy")},
    }
    print("| | images/s | without views | until the first batch, s | resident, GB | proportional, GB |")
    print("|---|---|---|---|---|---|", flush=True)
    within = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        pattern = write_shards(Path(temporary, "shards"), arguments.count)
        for phase, kind in PHASES.items():
            cache = "no" if kind == "no" else f"{temporary}/cache"
            command = [sys.executable, "-P", __file__, "--workers", str(arguments.workers), "--walk", pattern, cache]
            printed, peak = watch(command)
            row = json.loads(printed.splitlines()[-1]) | peak
            result[phase] = row
            within &= peak["resident_gb"] <= BOUND
            print(
                f"| {phase} ({row['kind']}) | {row['images_per_second']:,.0f} "
                f"| {row['images_per_second_without_views']:,.0f} | {row['load_seconds']:.1f} "
                f"| {row['resident_gb']:.2f} | {row['proportional_gb']:.2f} |",
                flush=True,
            )
    print(f"\n{arguments.count:,} images in at most {BOUND:g} GB resident: {'yes' if within else 'NO'}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result | {"within_bound": within}, indent=2) + "\n")
    if not within:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
