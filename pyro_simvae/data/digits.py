"""scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels that come with the package."""

import torch

from pyro_simvae.data.carving import carve
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.splits import Dataset, Splits

TEST_SEED = 1797
"""Fixes the test split, whatever the split seed, so that scores stay comparable."""


class Digits(Dataset):
    """Handwritten digits, 8x8, the smallest real data set: a whole experiment takes seconds.

    Args:
        valid_fraction: Share of the training images held out for validation, in (0, 1).
        test_fraction: Share of all images held out for the test, in (0, 1).
        split_seed: Chooses the validation images; the test images do not depend on it.
    """

    views = "digits"

    def __init__(self, valid_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0) -> None:
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self) -> Splits:
        from sklearn.datasets import load_digits

        source = load_digits()
        # The intensities are counts from 0 to 16.
        images = torch.from_numpy(source.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(source.target).long()
        self.classes = [str(name) for name in source.target_names]

        rest, test = carve(len(images), self.test_fraction, TEST_SEED, labels)
        train, valid = carve(len(rest), self.valid_fraction, self.split_seed, labels[rest])
        return Splits(*(MemorySplit(images[index], labels[index]) for index in (rest[train], rest[valid], test)))
