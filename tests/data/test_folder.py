from pathlib import Path

import pytest
import torch
from PIL import Image

from pyro_simvae.data import holding
from pyro_simvae.data.folder import Folder
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError


def fill(path: Path, count: int, value: int = 0, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> None:
    """`count` images of one grey value, as PNG files."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("L", size, value + i).convert(mode).save(path / f"{mode}-{i:02d}.png")


def load(path: Path, **options: int) -> tuple[list[int], Folder]:
    data = Folder(str(path), workers=0, **options)
    return [len(split) for split in data.load()], data


def test_train_and_test_with_classes(tmp_path: Path) -> None:
    for name, value in (("cat", 0), ("dog", 100)):
        fill(tmp_path / "train" / name, 10, value)
        fill(tmp_path / "test" / name, 3, value)
    data = Folder(str(tmp_path), workers=2)
    train, valid, test = data.load()
    assert [len(split) for split in (train, valid, test)] == [18, 2, 6]
    assert isinstance(train, MemorySplit)
    assert train.event_shape == (3, 6, 8)
    assert data.classes == ["cat", "dog"]
    assert test.labels is not None
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.images(torch.arange(6))[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]


@pytest.mark.parametrize("name", ["valid", "val"])
def test_a_validation_folder_is_used(tmp_path: Path, name: str) -> None:
    for part, count in (("train", 10), (name, 4), ("test", 5)):
        fill(tmp_path / part / "cat", count)
    assert load(tmp_path)[0] == [10, 4, 5]


def test_class_folders_alone_and_plain_files_are_carved(tmp_path: Path) -> None:
    fill(tmp_path / "classes" / "cat", 10)
    fill(tmp_path / "classes" / "dog", 10)
    (tmp_path / "classes" / "empty").mkdir()
    fill(tmp_path / "classes" / ".cache", 3)
    sizes, data = load(tmp_path / "classes")
    assert sizes == [14, 2, 4]
    assert data.classes == ["cat", "dog"]

    fill(tmp_path / "plain", 20)
    sizes, data = load(tmp_path / "plain")
    assert sizes == [14, 2, 4]
    assert data.classes is None
    assert data.load().train.labels is None


def test_mixed_sizes_and_modes(tmp_path: Path) -> None:
    fill(tmp_path, 4, mode="L", size=(8, 6))
    fill(tmp_path, 4, mode="RGBA", size=(20, 30))
    fill(tmp_path, 4, mode="P", size=(3, 5))
    train = Folder(str(tmp_path), channels=3, workers=0).load().train
    assert train.event_shape == (3, 6, 8)
    assert Folder(str(tmp_path), channels=1, size=16, workers=0).load().train.event_shape == (1, 16, 16)
    with pytest.raises(InputError, match=r"--data.channels 3"):
        Folder(str(tmp_path), workers=0).load()


def test_a_large_folder_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 20)
    small = Folder(str(tmp_path), workers=0).load().train
    monkeypatch.setattr(holding, "MEMORY_BUDGET", 1000)
    large = Folder(str(tmp_path), workers=0, cache="no").load().train
    assert isinstance(large, StreamedSplit)
    index = torch.arange(len(large))
    assert torch.equal(large.images(index), small.images(index))


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; .*--data.path"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"holds no images \(.jpg.*\); put them there"):
        load(tmp_path)


def test_images_beside_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    fill(tmp_path / "cat", 3)
    with pytest.raises(InputError, match=r"images beside class folders \(RGB-00.png, cat/\); move"):
        load(tmp_path)


def test_classes_that_the_splits_do_not_share(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "cat", 10)
    fill(tmp_path / "test" / "cow", 3)
    with pytest.raises(InputError, match="class cow, which no training image has; rename"):
        load(tmp_path)


@pytest.mark.parametrize(("train", "test", "said"), [("cat", "", "no class folders"), ("", "cat", "has class folders")])
def test_classes_in_only_one_split(tmp_path: Path, train: str, test: str, said: str) -> None:
    fill(tmp_path / "train" / train, 10)
    fill(tmp_path / "test" / test, 3)
    with pytest.raises(InputError, match=f"{said}, unlike the training images; sort"):
        load(tmp_path)


def test_a_corrupt_image(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    (tmp_path / "bad.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"bad.jpg is not an image that can be read; remove it"):
        load(tmp_path)


def test_options_out_of_range(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    with pytest.raises(InputError, match=r"set --data.channels 1 or 3"):
        load(tmp_path, channels=4)
    with pytest.raises(InputError, match=r"--data.size 64"):
        load(tmp_path, size=0)
