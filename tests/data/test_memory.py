import torch

from pyro_simvae.data.memory import MemorySplit


def test_batches_follow_the_order_and_keep_bytes() -> None:
    images = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8)
    split = MemorySplit(images, torch.arange(7), {"size": torch.arange(7)})
    order = torch.randperm(7)
    batches = list(split.batches(order, 3, num_views=2))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([batch.images for batch in batches]), images[order][:, None])
    assert torch.equal(torch.cat([batch.factors["size"] for batch in batches]), order[:, None].float())
    assert batches[0].images.dtype == torch.uint8
    assert split.event_shape == (3, 4, 5)
    assert torch.equal(split.images(torch.tensor([5, 2])), images[[5, 2]])


def test_moving_leaves_the_original_where_it_is() -> None:
    split = MemorySplit(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    moved = split.to("meta")
    assert moved.images(torch.tensor([0])).device.type == "meta"
    assert split.images(torch.tensor([0])).device.type == "cpu"
    assert moved.labels is not None
    assert moved.labels.device.type == "cpu"
