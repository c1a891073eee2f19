"""What a guide makes of views: its latent's moments, and content read from a whole group."""

import torch

from pyro_simvae import limits
from pyro_simvae.conjugate import content_posterior
from pyro_simvae.evaluation.encoders import LatentLoc, content_of, latent_of
from pyro_simvae.guides import MeanField
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP

P, D = 5, 3


def pair(cls=SimVAE):
    torch.manual_seed(0)
    model = cls(Normal(MLP([4]).decoder((P,), D)), D)
    return model, MeanField(model, MLP([4]).encoder((P,), D))


def test_loc_and_scale_are_the_encoders():
    _, guide = pair()
    x = torch.randn(6, P)
    loc, scale = guide.encoder(x)
    torch.testing.assert_close(LatentLoc(guide)(x), loc)
    torch.testing.assert_close(latent_of(guide, x.unsqueeze(1)).stddev.squeeze(1), scale)


def test_content_is_the_posterior_mean_given_all_views():
    _, guide = pair()
    x = torch.randn(6, 3, P)
    z = latent_of(guide, x).mean
    expected = content_posterior(z, 0.4, 1.0).mean.squeeze(1)
    torch.testing.assert_close(content_of(guide, x, z), expected)


def test_content_under_a_limit_is_the_guides_own():
    model, guide = pair()
    _, limited = limits.simclr()(model, guide)
    x = torch.randn(6, 3, P)
    z = latent_of(limited, x).mean
    assert latent_of(limited, x).stddev.abs().max() == 0
    torch.testing.assert_close(content_of(limited, x, z), content_posterior(z, 0.4, 1.0).mean.squeeze(1))


def test_a_story_without_content_has_none():
    _, guide = pair(VAE)
    x = torch.randn(6, 3, P)
    assert content_of(guide, x, latent_of(guide, x).mean) is None
