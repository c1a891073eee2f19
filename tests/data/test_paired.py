"""Paired modalities: the same items in all of them, and views drawn from each."""

import pytest
import torch

from pyro_simvae.data import Augmentation
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.paired import PairedSplit, PairedViews, views_of
from pyro_simvae.data.views import Views
from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities


@pytest.fixture
def split():
    """Item i: an image of value i, and the vector (i, 2 i)."""

    def make(present=None):
        value = torch.arange(7)
        images = value[:, None, None, None].expand(7, 1, 4, 5).to(torch.uint8)
        vectors = torch.stack([value, 2 * value], 1).float()
        factors = {"size": value.float()}
        return PairedSplit(
            {"image": MemorySplit(images, value % 3, factors), "vector": MemorySplit(vectors)},
            None if present is None else torch.tensor(present),
        )

    return make


def test_items_stay_together(split):
    data, order = split(), torch.tensor([3, 0, 6, 2, 5])
    assert len(data) == 7
    assert data.event_shape == {"image": (1, 4, 5), "vector": (2,)}
    assert torch.equal(data.labels, torch.arange(7) % 3)
    batches = list(data.batches(order, 2, 2))
    assert [len(batch.images) for batch in batches] == [2, 2, 1]
    for index, batch in zip(order.split(2), batches, strict=True):
        assert torch.equal(batch.images.views["image"][:, 0, 0, 0], index.to(torch.uint8))
        assert torch.equal(batch.images.views["vector"][:, 1], 2.0 * index)
        assert torch.equal(batch.factors["size"][:, 0], index.float())
    assert torch.equal(data.images(order).views["vector"][:, 0], order.float())
    assert data.to("cpu").images(order).present is None


def test_missing_modalities_follow_their_items(split):
    present = [[True, True]] * 5 + [[True, False], [False, True]]
    data = split(present)
    assert torch.equal(data.images(torch.tensor([6, 1, 5])).present, torch.tensor(present)[[6, 1, 5]])
    (batch,) = data.batches(torch.tensor([5, 0]), 2, 2)
    assert batch.images.present.tolist() == [[True, False], [True, True]]
    assert not batch.images.views["vector"][0].any()
    alone = data.modality("image")
    assert len(alone) == 6
    assert alone.event_shape == (1, 4, 5)
    assert alone.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert alone.factors["size"].tolist() == [0, 1, 2, 3, 4, 5]
    alone = data.modality("vector").to("cpu")
    assert alone.images(torch.tensor([5]))[0].tolist() == [6, 12]
    (batch,) = alone.batches(torch.tensor([5, 4]), 2, 1)
    assert batch.images[:, 0, 0].tolist() == [6, 4]
    assert len(split().modality("vector")) == 7


def test_views_augment_images_and_leave_vectors(split):
    items = split().images(torch.arange(7))
    views = views_of(Augmentation(horizontal_flip=0.5), split().event_shape)
    x, parameters = views(items, 2)
    assert isinstance(x, Modalities)
    assert x.views["image"].shape == (7, 1, 4, 5)
    assert x.views["image"].max() == 6 / 255
    assert torch.equal(x.views["vector"], items.views["vector"])
    assert {name: value.shape[0] for name, value in parameters.items()} == {"image/horizontal_flip": 7}
    assert torch.equal(views.plain(items).views["image"], items.views["image"] / 255)
    assert not views.state_dict()
    assert isinstance(views_of(Augmentation(), (1, 4, 5)), Views)


def test_drawing_and_augmenting_are_what_forward_does():
    shapes = {"photo": (3, 8, 8), "words": (5,), "sketch": (3, 6, 6)}
    items = Modalities({name: torch.rand(4, *shape) for name, shape in shapes.items()})
    augmentation = Augmentation(crop_scale=(0.5, 1.0), jitter=(0.4, 0.4, 0.4, 0.1))
    views = PairedViews(augmentation, shapes)
    torch.manual_seed(0)
    x, parameters = views(items, 3)
    torch.manual_seed(0)
    uniforms = views.draw(4, 3)
    again, same = views.augment(items, uniforms, 3)
    assert uniforms.shape == (4, 2 * Views(augmentation, (3, 8, 8)).num_uniforms)
    for name in shapes:
        assert torch.equal(again.views[name], x.views[name])
    assert list(same) == [f"{name}/{key}" for name in ("photo", "sketch") for key in ("crop_box", "jitter")]
    assert all(torch.equal(same[key], value) for key, value in parameters.items())
    assert not torch.equal(same["photo/jitter"], same["sketch/jitter"])


def test_views_keep_what_is_missing(split):
    present = [[True, True]] * 5 + [[True, False], [False, True]]
    items = split(present).images(torch.arange(7))
    views = PairedViews(Augmentation(), split().event_shape)
    assert torch.equal(views(items, 2)[0].present, torch.tensor(present))
    assert torch.equal(views.plain(items).present, torch.tensor(present))


def test_bad_pairs(split):
    with pytest.raises(InputError, match=r"there are \{'a': 2, 'b': 3\} items"):
        PairedSplit({name: MemorySplit(torch.zeros(count, 2)) for name, count in (("a", 2), ("b", 3))})
    for name in ("train", "v1.0"):
        with pytest.raises(InputError, match=f"a modality cannot be called '{name}'"):
            PairedSplit({"image": MemorySplit(torch.zeros(2, 2)), name: MemorySplit(torch.zeros(2, 2))})
    with pytest.raises(InputError, match="set the number of views to 2"):
        next(split().batches(torch.arange(3), 2, 3))
