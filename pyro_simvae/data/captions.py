"""Images paired with the word for what they show."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.data.benchmarks import MNIST
from pyro_simvae.data.digits import Digits
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.paired import PairedSplit
from pyro_simvae.data.splits import Dataset, Split, Splits
from pyro_simvae.errors import InputError

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class PairedDigits(Dataset):
    """scikit-learn's digits, 8x8, each with its numeral: "image" (1, 8, 8) and "text" (5, 27), one-hot letters.

    Args:
        valid_fraction, test_fraction, split_seed: As for `Digits`.
        missing: Share of the training images that have no text, in [0, 1).
    """

    views = "digits"

    def __init__(
        self, valid_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0, missing: float = 0.0
    ) -> None:
        self.images = Digits(valid_fraction, test_fraction, split_seed)
        self.missing = missing

    def load(self) -> Splits:
        self.classes = list(NUMERALS)
        return captioned(self.images.load(), NUMERALS, self.missing, self.images.split_seed)


class PairedMNIST(Dataset):
    """MNIST, each digit with its numeral: "image" (1, 28, 28) and "text" (5, 27), one-hot letters.

    Args:
        root, valid_fraction, split_seed: As for `MNIST`.
        missing: Share of the training images that have no text, in [0, 1).
    """

    views = "mnist"

    def __init__(
        self, root: str = "data", valid_fraction: float = 0.1, split_seed: int = 0, missing: float = 0.0
    ) -> None:
        self.images = MNIST(root, valid_fraction, split_seed)
        self.missing = missing

    def load(self) -> Splits:
        self.classes = list(NUMERALS)
        return captioned(self.images.load(), NUMERALS, self.missing, self.images.split_seed)


def captioned(splits: Splits, words: Sequence[str], missing: float = 0.0, seed: int = 0) -> Splits:
    """Labelled images, each paired with its class's word.

    Args:
        splits: of images.
        words: one for each label.
        missing: share of the training images without text, in [0, 1).
        seed: chooses them.

    Raises:
        InputError: `missing` out of range.
    """
    if not 0 <= missing < 1:
        raise InputError(f"missing is {missing}: give the share of images without text, from 0 to below 1")
    table = spell(words)

    def pair(split: Split, present: Tensor | None = None) -> Split:
        assert split.labels is not None
        return PairedSplit({"image": split, "text": MemorySplit(table[split.labels])}, present)

    present = torch.ones(len(splits.train), 2, dtype=torch.bool)
    order = torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))
    present[order[: round(missing * len(present))], 1] = False
    return Splits(pair(splits.train, present if missing else None), pair(splits.valid), pair(splits.test))


def spell(words: Sequence[str]) -> Tensor:
    """Words as one-hot letters, padded with spaces to the longest: (words, L, 27) float32.

    Raises:
        InputError: A letter that is none of a to z.
    """
    length = max(map(len, words))
    for word in words:
        if strange := set(word) - set(ALPHABET):
            raise InputError(f"{word!r} has the letter {sorted(strange)[0]!r}; write words with a to z and spaces")
    letters = [[ALPHABET.index(letter) for letter in word.ljust(length)] for word in words]
    return F.one_hot(torch.tensor(letters), len(ALPHABET)).float()
