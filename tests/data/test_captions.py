"""Digits with their numerals."""

import pytest
import torch

from pyro_simvae.data.captions import ALPHABET, NUMERALS, PairedDigits, PairedMNIST, captioned, spell
from pyro_simvae.data.digits import Digits
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.splits import Splits
from pyro_simvae.errors import InputError


def read(text):
    return ["".join(ALPHABET[i] for i in word.argmax(-1).tolist()).rstrip() for word in text]


def test_words_are_one_hot_letters():
    text = spell(NUMERALS)
    assert text.shape == (10, 5, 27)
    assert torch.equal(text.sum(-1), torch.ones(10, 5))
    assert read(text) == list(NUMERALS)
    with pytest.raises(InputError, match="'Zéro' has the letter 'Z'"):
        spell(["Zéro"])


def test_every_digit_has_its_numeral():
    data = PairedDigits(missing=0.25)
    splits, images = data.load(), Digits().load()
    assert data.classes == list(NUMERALS)
    for split, of_images in zip(splits, images, strict=True):
        index = torch.arange(len(split))
        items = split.images(index)
        assert torch.equal(split.splits["image"].images(index), of_images.images(index))
        words = read(items.views["text"])
        known = range(len(split)) if items.present is None else items.present[:, 1].nonzero()[:, 0].tolist()
        assert all(words[i] == NUMERALS[split.labels[i]] for i in known)
    assert (~splits.train.present).sum(0).tolist() == [0, round(0.25 * len(splits.train))]
    assert splits.valid.present is None
    assert splits.test.present is None
    assert PairedDigits().load().train.present is None


def test_mnist_is_captioned_alike(monkeypatch):
    data = PairedMNIST("somewhere", missing=0.5)
    split = MemorySplit(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.tensor([3, 1, 4, 1]))
    monkeypatch.setattr(data.images, "load", lambda: Splits(split, split, split))
    assert data.images.root == "somewhere"
    splits = data.load()
    assert read(splits.test.images(torch.arange(4)).views["text"]) == ["three", "one", "four", "one"]
    assert (~splits.train.present).sum() == 2


@pytest.mark.parametrize("missing", [-0.1, 1.0, float("nan")])
def test_missing_share_out_of_range(missing):
    with pytest.raises(InputError, match="give the share of images without text"):
        captioned(Digits().load(), NUMERALS, missing)
