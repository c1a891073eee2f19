import torch

from pyro_simvae.data.digits import Digits


def test_splits_are_disjoint_stratified_bytes() -> None:
    data = Digits()
    splits = data.load()
    assert [len(split) for split in splits] == [1294, 144, 359]
    assert data.classes == [str(digit) for digit in range(10)]
    for split in splits:
        images = split.images(torch.arange(len(split)))
        assert split.event_shape == (1, 8, 8)
        assert images.dtype == torch.uint8
        assert images.max() == 255
        assert split.labels is not None
        counts = split.labels.bincount(minlength=10) / len(split)
        assert (counts - 0.1).abs().max() < 0.02
    total = sum(split.images(torch.arange(len(split))).long().sum() for split in splits)
    every = sum(s.images(torch.arange(len(s))).long().sum() for s in Digits(0.3, 0.5, split_seed=9).load())
    assert total == every


def test_the_split_seed_moves_the_validation_images_only() -> None:
    first, second = Digits(split_seed=0).load(), Digits(split_seed=1).load()
    index = torch.arange(144)
    assert torch.equal(first.test.images(index), second.test.images(index))
    assert not torch.equal(first.valid.images(index), second.valid.images(index))
