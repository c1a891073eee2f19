import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter, WebDataset

from pyro_simvae.data import tar_index as module
from pyro_simvae.data.tar_index import index_shard, index_shards
from pyro_simvae.errors import InputError


def write(path: Path, *samples: dict[str, object]) -> str:
    """A shard; the content of an image plays no part here."""
    with TarWriter(str(path)) as shard:
        for sample in samples:
            shard.write(sample)
    return str(path)


def raw(path: Path, *members: tuple[str, bytes]) -> str:
    """A tar file of members in any order."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_finds_what_webdataset_finds(tmp_path: Path, workers: int) -> None:
    numbers = np.random.default_rng(0)
    shards = [
        write(
            tmp_path / f"{s}.tar",
            *({"__key__": f"deep/{s}-{i}", "jpg": numbers.bytes(700 * i + 1), "cls": i % 3} for i in range(4)),
        )
        for s in range(3)
    ]
    reference = list(WebDataset(shards, shardshuffle=False))
    found = index_shards(shards, workers, "no")
    assert [found.sources[i].read() for i in range(12)] == [sample["jpg"] for sample in reference]
    assert [str(found.sources[i]).split(": ")[1] for i in range(12)] == [f"{s['__key__']}.jpg" for s in reference]
    assert found.labels is not None
    assert found.labels.tolist() == [sample["cls"].decode() for sample in reference]


def test_labels_of_either_kind_and_other_members(tmp_path: Path) -> None:
    shard = raw(
        tmp_path / "x.tar",
        ("README", b"no sample"),
        ("a.json", json.dumps({"label": 7, "caption": "seven"}).encode()),
        ("a.PNG", b"a"),
        ("b.caption.txt", b"b"),
        ("b.json", b'{"label": "no, the .cls is asked"}'),
        ("b.mask.png", b"not an image of the sample"),
        ("b.webp", b"b"),
        ("b.cls", b" dog\n"),
        ("c.cls", b"of no image"),
    )
    table, labels = index_shard(shard)
    assert [size for _, size in table.tolist()] == [1, 1]
    assert labels.tolist() == ["7", "dog"]


def test_without_labels(tmp_path: Path) -> None:
    shard = write(tmp_path / "x.tar", {"__key__": "a", "png": b"a"}, {"__key__": "b", "png": b"b", "json": {"x": 1}})
    found = index_shards([shard], 0, "no")
    assert found.labels is None
    assert len(found.sources) == 2


def test_the_index_of_large_shards_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, cache = write(tmp_path / "x.tar", {"__key__": "a", "png": b"one", "cls": "cat"}), str(tmp_path / "cache")
    index_shards([shard], 0, cache)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(module, "KEPT_FROM", 0)
    first = index_shards([shard], 0, cache)
    monkeypatch.setattr(module, "index_shard", None)
    again = index_shards([shard], 0, cache)
    assert again.sources[0].read() == first.sources[0].read() == b"one"
    assert again.labels is not None
    assert again.labels.tolist() == ["cat"]
    monkeypatch.undo()
    monkeypatch.setattr(module, "KEPT_FROM", 0)
    write(tmp_path / "x.tar", {"__key__": "a", "png": b"another"})
    changed = index_shards([shard], 0, cache)
    assert changed.sources[0].read() == b"another"
    assert changed.labels is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1600), (0, 512), (0, 700), (0, 1000), (0, 2048), (0, 1536), (0, 0), (10, None)]
)
def test_a_shard_that_is_not_whole(tmp_path: Path, start: int, stop: int | None, workers: int) -> None:
    """Cut in a header, in a content, between members, before the end's mark; empty; damaged at the front."""
    good = raw(tmp_path / "good.tar", ("a.png", b"a" * 500), ("b.png", b"b" * 500))
    content = Path(good).read_bytes()[start:stop]
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.tar (is not an uncompressed tar file|has no end)") as caught:
        index_shards([good, str(tmp_path / "bad.tar")], workers, "no")
    assert "\n" not in str(caught.value)


def test_a_shard_damaged_in_the_middle(tmp_path: Path) -> None:
    shard = raw(tmp_path / "x.tar", ("a.png", b"a" * 500), ("b.png", b"b" * 500))
    with open(shard, "r+b") as file:
        file.seek(1024)
        file.write(b"x" * 100)
    with pytest.raises(InputError, match=r"x.tar has no end: it was cut short or damaged; write it anew"):
        index_shard(shard)


def test_a_compressed_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.add(__file__, "a.png")
    with pytest.raises(InputError, match=r"x.tar is not an uncompressed tar file that is whole"):
        index_shard(str(tmp_path / "x.tar"))


def test_a_shard_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.tar holds no images \(KEY.jpg, .*\); leave it out"):
        index_shard(write(tmp_path / "x.tar", {"__key__": "a", "cls": 1}))


@pytest.mark.parametrize("second", ["a.png", "a.jpg"])
def test_duplicate_keys(tmp_path: Path, second: str) -> None:
    shard = raw(tmp_path / "x.tar", ("a.png", b"a"), ("b.png", b"b"), (second, b"a"))
    with pytest.raises(InputError, match=r"x.tar holds two images of the key a; rename or remove one"):
        index_shard(shard)


def test_labels_missing_for_some(tmp_path: Path) -> None:
    labelled = write(tmp_path / "x.tar", *({"__key__": key, "png": b"x", "cls": 1} for key in "abc"))
    bare = write(tmp_path / "y.tar", *({"__key__": key, "png": b"x"} for key in "abc"))
    some = raw(tmp_path / "z.tar", ("a.png", b"a"), ("b.png", b"b"), ("b.cls", b"1"), ("c.png", b"c"))
    with pytest.raises(InputError, match=r"z.tar has no label for a \(2 in all\), but for others; give all"):
        index_shard(some)
    with pytest.raises(InputError, match=r"y.tar have no labels, unlike those of .*x.tar; give all"):
        index_shards([labelled, bare], 0, "no")
    with pytest.raises(InputError, match=r"x.tar have labels, unlike those of .*y.tar; give all"):
        index_shards([bare, labelled], 0, "no")


@pytest.mark.parametrize(("kind", "content"), [("cls", b"\xff"), ("json", b"{"), ("json", b"[1]"), ("json", b"\xff")])
def test_labels_that_cannot_be_read(tmp_path: Path, kind: str, content: bytes) -> None:
    shard = raw(tmp_path / "x.tar", ("a.png", b"a"), (f"a.{kind}", content))
    with pytest.raises(InputError, match=rf"x.tar: a.{kind} is no label that can be read; write text"):
        index_shard(shard)
