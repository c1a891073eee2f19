import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from pyro_simvae.data import Views, preset
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.shapes import draw
from pyro_simvae.data.sprites import Sprites
from pyro_simvae.evaluation.encoders import LatentLoc
from pyro_simvae.evaluation.representations import Viewed, posteriors, raw, represent, represent_views
from pyro_simvae.guides import MeanField
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP


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


@pytest.fixture
def sprites():
    return Sprites(num_images=40).load().train


@pytest.fixture
def guide():
    torch.manual_seed(0)
    network = MLP([8])
    model = SimVAE(Normal(network.decoder((3, 32, 32), 3)), 3)
    return MeanField(model, network.encoder((3, 32, 32), 3))


def test_views_come_with_what_they_were_drawn_with(sprites, guide):
    drawing = Views(preset("none"), (3, 32, 32))
    found = represent_views(guide, sprites, drawing, 2, seed=0, keep=2, batch_size=16)
    assert found.z.shape == (40, 2, 3)
    assert found.content.shape == found.style.shape == (40, 3)
    assert (found.parameters["shape"] == sprites.labels.numpy()).all()  # content is the item's own
    np.testing.assert_array_equal(found.style, found.z[:, 0] - found.content)
    factors = {name: torch.from_numpy(values) for name, values in found.parameters.items()}
    x = draw(factors | {"shape": factors["shape"].long()}, 32).float() / 255
    torch.testing.assert_close(LatentLoc(guide)(x), torch.from_numpy(found.z[:, 0]))


def test_a_seed_gives_every_guide_the_same_views(guide):
    split = MemorySplit(torch.rand(9, 3, 32, 32))
    drawing = Views(preset("crop"), (3, 32, 32))
    torch.manual_seed(5)
    first = represent_views(guide, split, drawing, 2, seed=3, most=7, batch_size=4)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the caller's random state is left alone
    again = represent_views(guide, split, drawing, 2, seed=3, most=7, batch_size=4)
    other = represent_views(guide, split, drawing, 2, seed=4, most=7, batch_size=4)
    assert first.parameters["crop_box"].shape == (7, 4)
    assert (first.parameters["crop_box"] == again.parameters["crop_box"]).all()
    assert (first.parameters["crop_box"] != other.parameters["crop_box"]).any()
    assert guide.training


def test_rows_are_filled_without_a_second_copy():
    split = MemorySplit(torch.zeros(20_000, 1, 16, 16, dtype=torch.uint8))
    tracemalloc.start()
    x = raw(split, plain, batch_size=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * x.nbytes


def test_posteriors_are_those_of_every_item_in_order(guide):
    split = MemorySplit(torch.rand(9, 3, 32, 32))
    found = posteriors(guide, split, plain, batch_size=4)
    assert [tuple(latent.batch_shape) for latent in found] == [(4, 1), (4, 1), (1, 1)]
    loc, scale = guide.encoder(plain(split.images(torch.arange(9))))
    torch.testing.assert_close(torch.cat([latent.mean for latent in found]).squeeze(1), loc)
    torch.testing.assert_close(torch.cat([latent.stddev for latent in found]).squeeze(1), scale)
    assert guide.training


def test_style_is_what_content_leaves_of_a_latent():
    z = np.arange(12.0, dtype=np.float32).reshape(2, 2, 3)
    whole = Viewed(z, np.ones((2, 3), np.float32), {})
    np.testing.assert_array_equal(whole.style, z[:, 0] - 1)
    part = Viewed(z, np.ones((2, 1), np.float32), {})
    np.testing.assert_array_equal(part.style, z[:, 0, 1:])
    assert Viewed(z, None, {}).style is None
