import numpy as np
import pytest
import torch
from torch import nn

from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.evaluation.representations import raw, represent


def plain(images):
    return images.float() / 255


@pytest.fixture
def split():
    return MemorySplit(
        torch.randint(0, 256, (7, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )


class Halves(nn.Module):
    """The first two pixels. Dropout would show in training mode."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(2)
        self.frozen.eval()

    def forward(self, x):
        assert not torch.is_grad_enabled()
        return self.dropout(x.flatten(1)[:, :2].double())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_represent_encodes_every_item_in_order(split, batch_size):
    z = represent(Halves(), split, plain, batch_size)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, plain(split.images(torch.arange(7))).flatten(1)[:, :2], rtol=1e-6)


def test_represent_restores_the_mode_of_each_module(split):
    encoder = Halves()
    represent(encoder, split, plain)
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.frozen.training


def test_represent_restores_the_mode_after_a_failure(split):
    encoder = Halves()
    with pytest.raises(AttributeError):
        represent(encoder, split, lambda images: None)
    assert encoder.training


def test_raw_is_every_item_flattened(split):
    x = raw(split, plain, batch_size=3)
    assert x.shape == (7, 6)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, plain(split.images(torch.arange(7))).flatten(1))
