"""MNIST and CIFAR-10 read from small files in their true formats."""

import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from pyro_simvae.data.benchmarks import CIFAR10, MNIST, FashionMNIST
from pyro_simvae.errors import InputError


def write_idx(folder: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Random digits as idx files: {part: (count, 28, 28) uint8}; the labels run 0, 1, ..., 9, 0, ..."""
    folder.mkdir(parents=True)
    pixels = {}
    for part, count in counts.items():
        pixels[part] = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels[part].tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return pixels


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST])
def test_idx_files_are_read(tmp_path: Path, cls: type[MNIST]) -> None:
    pixels = write_idx(tmp_path / cls.__name__ / "raw", {"train": 100, "t10k": 20})
    data = cls(str(tmp_path), valid_fraction=0.2)
    train, valid, test = data.load()
    assert (len(train), len(valid), len(test)) == (80, 20, 20)
    assert train.event_shape == (1, 28, 28)
    assert valid.labels is not None
    assert valid.labels.bincount().tolist() == [2] * 10
    assert torch.equal(test.images(torch.arange(20)), torch.from_numpy(pixels["t10k"])[:, None])
    assert data.classes is not None
    assert len(data.classes) == 10
    both = torch.cat([train.images(torch.arange(80)), valid.images(torch.arange(20))])
    assert both.long().sum() == pixels["train"].astype(int).sum()


def test_pickled_cifar_batches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    contents = {
        "batch": {"data": rows, "labels": [i % 10 for i in range(20)]},
        "meta": {"label_names": [f"class {i}" for i in range(10)]},
    }
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [("batch", sums["batch"])])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("batch", sums["batch"])])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": sums["meta"]})
    data = CIFAR10(str(tmp_path), valid_fraction=0.5)
    train, valid, test = data.load()
    assert (len(train), len(valid), len(test)) == (10, 10, 20)
    assert torch.equal(test.images(torch.arange(20)), torch.from_numpy(rows.reshape(20, 3, 32, 32)))
    assert data.classes == [f"class {i}" for i in range(10)]


def test_files_that_can_neither_be_found_nor_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(InputError, match=r"MNIST is neither under .* nor can it be downloaded .*--data.root"):
        MNIST(str(tmp_path)).load()


def test_a_truncated_file_is_named_with_its_mend(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", {"train": 100, "t10k": 20})
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(InputError, match="MNIST") as caught:
        MNIST(str(tmp_path)).load()
    assert "\n" not in str(caught.value)


def test_real_mnist() -> None:
    root = Path(os.environ.get("PYRO_SIMVAE_DATA", "data"))
    if not (root / "MNIST").is_dir():
        pytest.skip("no MNIST under PYRO_SIMVAE_DATA")
    train, valid, test = MNIST(str(root)).load()
    assert (len(train), len(valid), len(test)) == (54_000, 6_000, 10_000)
    assert test.labels is not None
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
