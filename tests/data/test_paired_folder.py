"""Folders of images paired by name."""

import pytest
import torch
from PIL import Image

from pyro_simvae.data import holding
from pyro_simvae.data.paired_folder import PairedFolder
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError


@pytest.fixture
def fill(tmp_path):
    """Image i of each class has value i in every modality, whose sizes and kinds of file differ."""

    def make(classes=("cat", "dog"), count=10):
        for folder, (mode, size, ending) in {"photo": ("RGB", (8, 6), "png"), "sketch": ("L", (5, 5), "bmp")}.items():
            for offset, name in enumerate(classes):
                (tmp_path / folder / name).mkdir(parents=True)
                for i in range(count):
                    image = Image.new("L", size, 100 * offset + i).convert(mode)
                    image.save(tmp_path / folder / name / f"{i:02}.{ending}")
        return tmp_path

    return make


@pytest.mark.parametrize("budget", [2**20, 0])
def test_files_of_one_name_are_one_item(fill, monkeypatch, budget):
    monkeypatch.setattr(holding, "MEMORY_BUDGET", budget)
    data = PairedFolder(str(fill()), workers=0, cache="no")
    splits = data.load()
    assert data.classes == ["cat", "dog"]
    assert [len(split) for split in splits] == [14, 2, 4]
    seen = []
    for split in splits:
        assert split.event_shape == {"photo": (3, 6, 8), "sketch": (1, 5, 5)}
        assert isinstance(split.splits["photo"], StreamedSplit) == (budget == 0)
        items = split.images(torch.arange(len(split)))
        photo, sketch = (view.flatten(1)[:, 0] for view in items.views.values())
        assert torch.equal(photo, sketch)
        assert torch.equal(photo // 100, split.labels)
        seen += photo.tolist()
    assert sorted(seen) == [*range(10), *range(100, 110)]


def test_without_classes_and_of_one_format(fill):
    data = PairedFolder(str(fill(classes=("",))), size=4, channels=1, workers=0)
    splits = data.load()
    assert data.classes is None
    assert splits.train.labels is None
    assert splits.train.event_shape == {"photo": (1, 4, 4), "sketch": (1, 4, 4)}


def test_bad_folders(fill, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        PairedFolder(str(tmp_path / "nowhere")).load()
    with pytest.raises(InputError, match="holds 0 folders"):
        PairedFolder(str(tmp_path)).load()
    fill()
    with pytest.raises(InputError, match="images have 1 or 3 channels"):
        PairedFolder(str(tmp_path), channels=2).load()
    (tmp_path / "sketch" / "cat" / "03.bmp").rename(tmp_path / "sketch" / "cat" / "99.bmp")
    with pytest.raises(InputError, match=r"photo/cat/03 has no partner in sketch/ \(2 in all\)"):
        PairedFolder(str(tmp_path)).load()
    Image.new("L", (5, 5)).save(tmp_path / "photo" / "cat" / "03.jpg")
    with pytest.raises(InputError, match=r"holds cat/03 twice, as 03.\w+ and 03.\w+; keep one"):
        PairedFolder(str(tmp_path)).load()
