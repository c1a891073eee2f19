from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_simvae.data.arrays import Arrays
from pyro_simvae.errors import InputError

BYTES = np.arange(30 * 4 * 5, dtype=np.uint32).reshape(30, 4, 5).astype(np.uint8)


def save(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def test_grey_bytes_with_labels(tmp_path: Path) -> None:
    data = Arrays(save(tmp_path, images=BYTES, labels=np.array(["b", "a", "c"] * 10)))
    train, valid, test = data.load()
    assert [len(split) for split in (train, valid, test)] == [22, 2, 6]
    assert train.event_shape == (1, 4, 5)
    assert data.classes == ["a", "b", "c"]
    assert data.views == "crop"
    assert test.labels is not None
    assert test.labels.bincount().tolist() == [2, 2, 2]
    rows = {tuple(image.flatten()): i for i, image in enumerate(BYTES)}
    places = [rows[tuple(image.flatten().numpy())] for image in test.images(torch.arange(6))]
    assert [[1, 0, 2][place % 3] for place in places] == test.labels.tolist()


def test_float_images_stay_float(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((30, 3, 4, 4))
    train = Arrays(save(tmp_path, images=images)).load().train
    assert train.images(torch.tensor([0])).dtype == torch.float32
    assert train.event_shape == (3, 4, 4)
    assert train.labels is None


def test_ready_made_vector_views(tmp_path: Path) -> None:
    views = np.random.default_rng(0).normal(size=(30, 3, 7))
    data = Arrays(save(tmp_path, views=views, labels=np.arange(30) % 2))
    train = data.load().train
    assert data.views == "none"
    assert train.event_shape == (7,)
    order = torch.tensor([3, 1, 2])
    batches = list(train.batches(order, 2, num_views=2))
    assert [batch.images.shape for batch in batches] == [(2, 2, 7), (1, 2, 7)]
    assert torch.equal(torch.cat([batch.images for batch in batches])[:, 0], train.images(order))
    assert train.to("meta").images(order).device.type == "meta"
    with pytest.raises(InputError, match=r"4 views a group .* holds 3; set the number of views"):
        train.batches(order, 2, num_views=4)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": BYTES[0]}, r"images has shape \(4, 5\); give it"),
        ({"images": np.zeros((9, 4, 5, 3), np.uint8)}, r"channels on axis 1: images.transpose\(0, 3, 1, 2\)"),
        ({"images": np.zeros((9, 4, 5, 6), np.uint8)}, r"put 1 or 3 channels on axis 1$"),
        ({"images": BYTES.astype(np.int64)}, "images has type int64; save it as uint8"),
        ({"images": BYTES.astype(float)}, "images has values outside .* divide by 255"),
        ({"images": np.full((9, 4, 5), np.nan)}, "images has values outside .* or NaN"),
        ({"views": np.zeros((9, 4))}, r"views has shape \(9, 4\); give it"),
        ({"views": np.full((9, 2, 3), np.inf)}, "views has values that are NaN or infinite; remove"),
        ({"views": np.full((9, 2, 3), "a")}, "views has type .*; save it as float32"),
        ({"images": BYTES, "labels": np.arange(3)}, r"labels has shape \(3,\); give it shape \(30,\)"),
        ({"images": BYTES, "labels": np.zeros(30)}, "labels has type float64; save it as integers"),
        ({"pixels": BYTES}, "either images or views, it has pixels; save one"),
        ({"images": BYTES, "views": np.zeros((30, 2, 3))}, "either images or views, it has images, views"),
        ({"images": np.array([{}], dtype=object)}, "cannot be read .*; save plain numeric arrays"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Arrays(save(tmp_path, **arrays)).load()


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*none.npz; name an .npz file"):
        Arrays(str(tmp_path / "none.npz")).load()
    np.save(tmp_path / "one.npy", BYTES)
    with pytest.raises(InputError, match=r"one.npy is not an .npz file; write it with numpy.savez"):
        Arrays(str(tmp_path / "one.npy")).load()


def test_a_test_split_of_its_own(tmp_path: Path) -> None:
    labels = np.array(["b", "a", "c"] * 10)
    data = Arrays(
        save(tmp_path, images=BYTES[:24], labels=labels[:24], test_images=BYTES[24:], test_labels=labels[24:])
    )
    train, valid, test = data.load()
    assert len(train) + len(valid) == 24
    np.testing.assert_array_equal(test.images(torch.arange(6))[:, 0], BYTES[24:])
    assert test.labels is not None
    assert [data.classes[label] for label in test.labels] == list(labels[24:])  # type: ignore[index]
    views = np.random.default_rng(0).normal(size=(30, 3, 7))
    assert len(Arrays(save(tmp_path, views=views[:20], test_views=views[20:])).load().test) == 10


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"label": np.arange(30)}, "unknown array in .* 'label': did you mean labels"),
        ({"test_labels": np.arange(30)}, "has test_labels and no test_images: save test_images too"),
        ({"test_images": BYTES, "labels": np.arange(30)}, "labels of one split only: save labels and test_labels"),
        ({"test_images": BYTES[:, :3]}, "images and test_images that are uint8"),
    ],
)
def test_arrays_that_do_not_belong(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Arrays(save(tmp_path, images=BYTES, **arrays)).load()
