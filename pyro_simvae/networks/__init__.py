"""Encoders and decoders, sized by the shape of a view. No Pyro here."""

from pyro_simvae.networks.base import Decoder, Encoder, Network
from pyro_simvae.networks.conv import Conv
from pyro_simvae.networks.linear import Linear
from pyro_simvae.networks.mlp import MLP
from pyro_simvae.networks.multimodal import Encoders
from pyro_simvae.networks.resnet import ResNet18

__all__ = ["MLP", "Conv", "Decoder", "Encoder", "Encoders", "Linear", "Network", "ResNet18"]
