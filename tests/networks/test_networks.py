"""Networks of every kind fit every shape of view, whatever the batch shape."""

import pytest
import torch

from pyro_simvae.errors import InputError
from pyro_simvae.networks import MLP, Conv, Linear, ResNet18

IMAGES = [(1, 8, 8), (1, 28, 28), (3, 33, 30)]


@pytest.mark.parametrize("event_shape", IMAGES)
@pytest.mark.parametrize(
    "network", [MLP([7, 5]), Conv(), Conv([4, 8, 8], 16), Conv(dense_decoder=True), ResNet18(), Linear()]
)
def test_decoder_mirrors_encoder(network, event_shape):
    x = torch.rand(2, 3, *event_shape)
    loc, scale = network.encoder(event_shape, 4)(x)
    assert loc.shape == scale.shape == (2, 3, 4)
    assert (scale > 0).all()
    assert network.decoder(event_shape, 4)(loc).shape == x.shape


@pytest.mark.parametrize("network", [MLP([7]), Linear()])
def test_vector_views(network):
    loc, _ = network.encoder((6,), 4)(torch.rand(2, 3, 6))
    assert network.decoder((6,), 4)(loc).shape == (2, 3, 6)


@pytest.mark.parametrize("network", [Conv(), ResNet18()])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_convolutions_refuse_vectors(network, part):
    with pytest.raises(InputError, match="use --network mlp"):
        getattr(network, part)((6,), 4)


def test_paper_sizes_are_the_default():
    widths = [
        layer.out_features for layer in MLP().encoder((1, 28, 28), 10).modules() if hasattr(layer, "out_features")
    ]
    assert widths == [20, 2000, 500, 500] or widths == [2000, 500, 500, 20]


@pytest.mark.parametrize("make", [lambda: MLP([]), lambda: MLP([4, 0]), lambda: Conv([]), lambda: Conv([4], 0)])
def test_empty_layers_are_refused(make):
    with pytest.raises(InputError, match="positive numbers"):
        make()
