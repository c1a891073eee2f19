import pytest
import torch

from pyro_simvae.data.transfer import to_device


def test_batches_keep_their_order_and_are_asked_for_one_at_a_time() -> None:
    asked = []

    def batches():
        for i in range(3):
            asked.append(i)
            yield torch.full((2,), i)

    moved = to_device(batches(), torch.device("cpu"))
    assert next(moved).tolist() == [0, 0]
    assert asked == [0]
    assert [batch.tolist() for batch in moved] == [[1, 1], [2, 2]]
    assert list(to_device([], torch.device("cpu"))) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("count", [0, 1, 50])
def test_copies_ahead_are_whole_when_they_are_used(count: int) -> None:
    batches = [torch.full((1024, 1024), i).pin_memory() for i in range(count)]
    sums = [batch.sum() for batch in to_device(batches, torch.device("cuda"))]
    assert [int(value) for value in sums] == [2**20 * i for i in range(count)]
