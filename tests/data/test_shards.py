from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from webdataset import TarWriter

from pyro_simvae.data import holding
from pyro_simvae.data.cached import CachedSplit
from pyro_simvae.data.folder import Folder
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.shards import Shards, find_shards
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError


def fill(folder: Path, count: int, classes: int = 0, shards: int = 2, part: str = "train", **sample: object) -> str:
    """Shards of `count` images of noise in all, the same ones each time; returns their pattern."""
    folder.mkdir(exist_ok=True)
    numbers = np.random.default_rng(0)
    for s in range(shards):
        with TarWriter(str(folder / f"{part}-{s:03d}.tar")) as shard:
            for i in range(s * count // shards, (s + 1) * count // shards):
                image = Image.fromarray(numbers.integers(0, 256, (6, 8, 3), dtype=np.uint8))
                label = {"cls": i * classes // count} if classes else {}
                shard.write({"__key__": f"{i:03d}", "png": image} | label | sample)
    return f"{folder}/{part}-{{000..{shards - 1:03d}}}.tar"


def test_shards_and_a_folder_of_the_same_images_are_the_same_data(tmp_path: Path) -> None:
    pattern = fill(tmp_path, 40, classes=2)
    numbers = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "folder" / ("ab"[i // 20]) / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
    data = Shards(pattern, workers=0)
    for ours, theirs in zip(data.load(), Folder(str(tmp_path / "folder"), workers=0).load(), strict=True):
        assert isinstance(ours, MemorySplit)
        assert ours.labels is not None
        assert theirs.labels is not None
        assert torch.equal(ours.labels, theirs.labels)
        index = torch.arange(len(ours))
        assert torch.equal(ours.images(index), theirs.images(index))
    assert data.classes == ["0", "1"]


@pytest.mark.parametrize(("cache", "kind"), [("cache", CachedSplit), ("no", StreamedSplit)])
def test_large_sets_are_cached_or_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, kind: type
) -> None:
    pattern = fill(tmp_path, 20)
    small = Shards(pattern, workers=0).load()
    monkeypatch.setattr(holding, "MEMORY_BUDGET", 0)
    large = Shards(pattern, workers=2, cache=cache if cache == "no" else str(tmp_path / cache)).load()
    for ours, theirs in zip(large, small, strict=True):
        assert isinstance(ours, kind)
        order = torch.randperm(len(ours))
        for mine, batch in zip(ours.batches(order, 3, 2), theirs.batches(order, 3, 2), strict=True):
            assert torch.equal(mine.images, batch.images)


def test_given_splits_are_used(tmp_path: Path) -> None:
    train, valid, test = (fill(tmp_path, count, 2, part=part) for part, count in (("a", 10), ("b", 4), ("c", 6)))
    splits = Shards(train, valid_pattern=valid, test_pattern=test, workers=0).load()
    assert [len(split) for split in splits] == [10, 4, 6]
    assert [split.labels.tolist() for split in splits[1:] if split.labels is not None] == [
        [0] * 2 + [1] * 2,
        [0] * 3 + [1] * 3,
    ]
    assert torch.equal(splits.valid.images(torch.arange(4)), splits.test.images(torch.arange(4)))
    assert [len(split) for split in Shards(train, test_pattern=test, workers=0).load()] == [9, 1, 6]


def test_integers_are_classes_in_numerical_order_and_names_in_alphabetical(tmp_path: Path) -> None:
    data = Shards(fill(tmp_path / "numbers", 48, classes=12), workers=0)
    data.load()
    assert data.classes == [str(i) for i in range(12)]
    fill(tmp_path / "names", 10, part="a", cls="dog")
    fill(tmp_path / "names", 10, part="b", cls="cat")
    data = Shards(str(tmp_path / "names"), workers=0)
    train = data.load().train
    assert data.classes == ["cat", "dog"]
    assert train.labels is not None
    assert train.labels.tolist() == [1] * 7 + [0] * 7


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = fill(tmp_path, 4, shards=3)
    expected = [f"{tmp_path}/train-{s:03d}.tar" for s in range(3)]
    assert find_shards(pattern) == find_shards(str(tmp_path)) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_shards("~/train-{002,000}.tar") == [expected[2], expected[0]]


def test_patterns_of_nothing(tmp_path: Path) -> None:
    pattern = fill(tmp_path / "some", 4)
    with pytest.raises(
        InputError, match=r"there is no shard .*train-002.tar; name local tar files with --data.pattern"
    ):
        Shards(pattern.replace("001}", "002}")).load()
    with pytest.raises(InputError, match=r"has a brace too many or too few; write for example train-\{000..099\}.tar"):
        Shards(pattern.replace("}", "")).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no shards \(\*.tar\); name their folder"):
        Shards(str(tmp_path / "empty")).load()


def test_labels_that_the_splits_do_not_share(tmp_path: Path) -> None:
    train, bare = fill(tmp_path, 10, classes=2, part="a"), fill(tmp_path, 4, part="b")
    with pytest.raises(InputError, match=r"b-000.tar has no labels, unlike the training shards; give both"):
        Shards(train, test_pattern=bare, workers=0).load()
    with pytest.raises(InputError, match=r"a-000.tar has labels, unlike the training shards; give both"):
        Shards(bare, valid_pattern=train, workers=0).load()
    with pytest.raises(InputError, match=r"the label 2 of a validation or test image is that of no training image"):
        Shards(train, valid_pattern=fill(tmp_path, 6, classes=3, part="c"), workers=0).load()


def test_an_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    pattern = fill(tmp_path, 20)
    with TarWriter(str(tmp_path / "train-001.tar")) as shard:
        shard.write({"__key__": "bad", "png": b"broken"})
    with pytest.raises(InputError, match=r"train-001.tar: bad.png is not an image that can be read; remove it"):
        Shards(pattern, workers=2).load()


def test_mixed_channels(tmp_path: Path) -> None:
    pattern = fill(tmp_path, 20)
    with TarWriter(str(tmp_path / "train-001.tar")) as shard:
        shard.write({"__key__": "grey", "png": Image.new("L", (8, 6))})
    with pytest.raises(InputError, match=r"train-001.tar: grey.png has 1 channel where .*--data.channels 3"):
        Shards(pattern, workers=0).load()
    assert Shards(pattern, channels=1, size=4, workers=0).load().train.event_shape == (1, 4, 4)


def test_options_out_of_range(tmp_path: Path) -> None:
    pattern = fill(tmp_path, 10)
    with pytest.raises(InputError, match=r"set --data.channels 1 or 3"):
        Shards(pattern, channels=2).load()
    with pytest.raises(InputError, match=r"--data.size 64"):
        Shards(pattern, size=0).load()
