"""CelebA read from small files in its true format."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import datasets

from pyro_simvae.data.celeba import CelebA
from pyro_simvae.errors import InputError

ATTRIBUTES = ["Bald", "Eyeglasses", "Smiling"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six faces of 178x218, two a split; face i has attribute k if i % (k + 2) is 0."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (40 * i, 0, 0)).save(folder / "img_align_celeba" / name)
    rows = {name: " ".join("1" if i % (k + 2) == 0 else "-1" for k in range(3)) for i, name in enumerate(names)}
    tables = {
        "list_attr_celeba.txt": f"6\n{' '.join(ATTRIBUTES)} \n" + "".join(f"{n}  {r}\n" for n, r in rows.items()),
        "identity_CelebA.txt": "".join(f"{n} 1\n" for n in names),
        "list_bbox_celeba.txt": "6\nimage_id x y\n" + "".join(f"{n} 1 1\n" for n in names),
        "list_landmarks_align_celeba.txt": "6\nx y\n" + "".join(f"{n} 1 1\n" for n in names),
        "list_eval_partition.txt": "".join(f"{n} {i // 2}\n" for i, n in enumerate(names)),
    }
    for name, text in tables.items():
        (folder / name).write_text(text)
    # The true files' checksums; torchvision then only asks whether the files are there.
    monkeypatch.setattr(datasets.CelebA, "file_list", [(i, None, name) for i, _, name in datasets.CelebA.file_list])
    return tmp_path


def test_faces_and_attributes(root: Path) -> None:
    train, valid, test = CelebA(str(root), workers=0).load()
    assert [len(split) for split in (train, valid, test)] == [2, 2, 2]
    assert list(train.factors) == ATTRIBUTES
    assert train.labels is None
    assert test.factors["Bald"].tolist() == [1, 0]
    assert test.factors["Eyeglasses"].tolist() == [0, 0]
    (batch,) = test.batches(torch.tensor([1, 0]), 4, num_views=2)
    assert batch.images.shape == (2, 1, 3, 64, 64)
    assert batch.factors["Bald"].tolist() == [[0.0], [1.0]]
    assert abs(int(batch.images[0, 0, 0, 32, 32]) - 200) <= 2


def test_missing_files_are_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", offline)
    with pytest.raises(InputError, match=r"CelebA is neither under .*no route to host.*--data.root"):
        CelebA(str(tmp_path)).load()
