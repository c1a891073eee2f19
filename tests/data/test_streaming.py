from pathlib import Path

import pytest
import torch
from PIL import Image

from pyro_simvae.data.decoding import Format
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.streaming import StreamedSplit
from pyro_simvae.errors import InputError


def make_split(folder: Path, workers: int) -> StreamedSplit:
    """Ten images, the i-th filled with the value 10 i."""
    paths = [str(folder / f"{i}.png") for i in range(10)]
    for i, path in enumerate(paths):
        Image.new("L", (4, 4), 10 * i).save(path)
    return StreamedSplit(
        Sources.of_files(paths), Format(1, 4, 4, convert=False), workers, torch.arange(10), {"value": torch.arange(10)}
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_order_without_touching_the_global_generator(tmp_path: Path, workers: int) -> None:
    split = make_split(tmp_path, workers)
    order = torch.randperm(10)
    before = torch.get_rng_state()
    batches = list(split.batches(order, 4, num_views=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert [batch.images.shape for batch in batches] == [(4, 1, 1, 4, 4), (4, 1, 1, 4, 4), (2, 1, 1, 4, 4)]
    assert torch.equal(torch.cat([batch.images[:, 0, 0, 0, 0] for batch in batches]), (10 * order).byte())
    assert torch.equal(torch.cat([batch.factors["value"] for batch in batches])[:, 0], order.float())


def test_an_empty_order_has_no_batches(tmp_path: Path) -> None:
    assert list(make_split(tmp_path, 2).batches(torch.arange(0), 4, num_views=2)) == []


def test_items_and_device(tmp_path: Path) -> None:
    split = make_split(tmp_path, 2)
    assert split.images(torch.tensor([7, 3]))[:, 0, 0, 0].tolist() == [70, 30]
    assert split.images(torch.arange(0)).shape == (0, 1, 4, 4)
    assert split.to("meta").images(torch.tensor([0])).device.type == "meta"
    assert split.images(torch.tensor([0])).device.type == "cpu"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_arrives_as_one_line(tmp_path: Path, workers: int) -> None:
    split = make_split(tmp_path, workers)
    Path(split.sources[6].path).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"6.png is not an image") as caught:
        list(split.batches(torch.arange(10), 4, num_views=2))
    assert "\n" not in str(caught.value)
