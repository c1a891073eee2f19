import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_simvae.data import streaming
from pyro_simvae.data.cached import CachedSplit, decode_once
from pyro_simvae.data.decoding import Format, decode
from pyro_simvae.data.sources import Sources
from pyro_simvae.errors import InputError

TARGET = Format(3, 5, 4, convert=False)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Ten images of noise."""
    numbers = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.png") for i in range(10)]
    for path in paths:
        Image.fromarray(numbers.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)
    return Sources.of_files(paths)


@pytest.fixture
def images(sources: Sources) -> torch.Tensor:
    return torch.stack([decode(sources[i], TARGET) for i in range(len(sources))])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_file_holds_the_images(sources: Sources, images: torch.Tensor, tmp_path: Path, workers: int) -> None:
    path = decode_once(sources, TARGET, workers, str(tmp_path / "cache"))
    stored = np.load(path, mmap_mode="r")
    assert stored.dtype == np.uint8
    assert torch.equal(torch.from_numpy(np.array(stored)), images)


def test_batches_follow_the_order(sources: Sources, images: torch.Tensor, tmp_path: Path) -> None:
    path = decode_once(sources, TARGET, 0, str(tmp_path / "cache"))
    rows = torch.tensor([9, 1, 4, 6, 0, 2, 8])
    split = CachedSplit(path, rows, torch.arange(7), {"row": rows})
    assert len(split) == 7
    assert split.event_shape == (3, 5, 4)
    order = torch.tensor([5, 0, 3, 6, 1])
    before = torch.get_rng_state()
    batches = list(split.batches(order, 2, num_views=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert [batch.images.shape for batch in batches] == [(2, 1, 3, 5, 4), (2, 1, 3, 5, 4), (1, 1, 3, 5, 4)]
    assert torch.equal(torch.cat([batch.images[:, 0] for batch in batches]), images[rows[order]])
    assert torch.equal(torch.cat([batch.factors["row"][:, 0] for batch in batches]), rows[order].float())
    assert list(split.batches(torch.arange(0), 4, num_views=2)) == []
    assert torch.equal(split.images(torch.tensor([6, 2])), images[[8, 4]])
    assert split.images(torch.arange(0)).shape == (0, 3, 5, 4)
    assert split.to("meta").images(torch.tensor([0])).device.type == "meta"
    assert split.images(torch.tensor([0])).device.type == "cpu"


def test_only_changed_images_and_other_formats_are_decoded_anew(sources: Sources, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first = decode_once(sources, TARGET, 0, cache)
    written = first.stat().st_mtime_ns
    assert decode_once(sources, TARGET, 0, cache) == first
    assert first.stat().st_mtime_ns == written
    assert decode_once(sources, TARGET._replace(height=4), 0, cache) != first
    Image.new("RGB", (4, 5), "white").save(sources[3].path)
    changed = decode_once(sources, TARGET, 0, cache)
    assert changed != first
    assert (CachedSplit(changed, torch.arange(10)).images(torch.tensor([3])) == 255).all()


def test_an_interrupted_file_is_gone_on_with(
    sources: Sources, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, decoded = str(tmp_path / "cache"), []

    def until(last: int) -> None:
        def interrupted(source, target):  # type: ignore[no-untyped-def]
            if len(decoded) == last:
                raise KeyboardInterrupt
            decoded.append(source.path)
            return decode(source, target)

        monkeypatch.setattr(streaming, "decode", interrupted)

    monkeypatch.setattr(streaming, "PIECE", 2 * 60)
    until(7)
    with pytest.raises(KeyboardInterrupt):
        decode_once(sources, TARGET, 0, cache)
    (partial,) = Path(cache).glob("*.partial.npy")
    assert list(Path(cache).glob("*.npy")) == [partial]
    with partial.open("ab") as file:  # part of an image
        file.write(b"torn")
    decoded.clear()
    until(100)
    path = decode_once(sources, TARGET, 0, cache)
    assert decoded == [sources[i].path for i in range(6, 10)]
    assert torch.equal(torch.from_numpy(np.load(path)), images)


def test_a_full_disk(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(599))
    with pytest.raises(InputError, match=r"take 0.0 GB more, .*cache has 0.0 GB free; .*--data.cache no"):
        decode_once(sources, TARGET, 0, str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(600))
    decode_once(sources, TARGET, 0, str(tmp_path / "cache"))


@pytest.mark.parametrize("before", [True, False])
def test_a_file_cut_short(sources: Sources, tmp_path: Path, before: bool) -> None:
    path = decode_once(sources, TARGET, 0, str(tmp_path / "cache"))
    split = CachedSplit(path, torch.arange(10))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(InputError, match=r".npy was cut short since it was written; remove it"):
        CachedSplit(path, torch.arange(10)) if before else split.images(torch.tensor([0, 9]))


def test_a_corrupt_image_is_named_and_leaves_no_file(sources: Sources, tmp_path: Path) -> None:
    Path(sources[4].path).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"4.png is not an image that can be read"):
        decode_once(sources, TARGET, 2, str(tmp_path / "cache"))
    assert not [file for file in (tmp_path / "cache").glob("*.npy") if "partial" not in file.name]


PEAK = """
import sys
import torch
from pyro_simvae.data import holding
from pyro_simvae.data.shards import Shards

holding.MEMORY_BUDGET = 0
train = Shards(sys.argv[1], workers=0, cache=sys.argv[2]).load().train
for batch in train.batches(torch.randperm(len(train)), 64, 2):
    batch.images.float().mean()
status = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
print(len(train), status["VmHWM"].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak memory of a process without /proc")
@pytest.mark.parametrize("cache", ["cache", "no"])
def test_memory_does_not_grow_with_the_images(tmp_path: Path, cache: str) -> None:
    """Decoded, 15,000 more images are 184 MB."""
    from webdataset import TarWriter

    with TarWriter(str(tmp_path / "a.tar")) as shard:
        for i in range(5000):
            shard.write({"__key__": str(i), "ppm": b"P6 64 64 255\n" + bytes([i % 251]) * 64 * 64 * 3})
    cache = cache if cache == "no" else str(tmp_path / cache)
    peaks = []
    for times in (1, 4):
        pattern = f"{tmp_path}/{{{','.join('a' * times)}}}.tar" if times > 1 else f"{tmp_path}/a.tar"
        run = subprocess.run(
            [sys.executable, "-P", "-c", PEAK, pattern, cache], capture_output=True, text=True, check=True
        )
        count, peak = map(int, run.stdout.split())
        peaks.append((count, peak / 1024))
    (few, low), (many, high) = peaks
    assert many - few > 10_000
    assert high - low < 30
