"""The projection head: part of the guide, with representations before and after it."""

import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP

P, D = 5, 3


def guide(projection=()):
    model = SimVAE(Normal(MLP([4]).decoder((P,), D)), D)
    return model, MeanField(model, MLP([4]).encoder((P,), D), projection=projection)


def test_head_stands_between_features_and_latent():
    _, headed = guide([7, 6])
    x = torch.randn(2, 3, P)
    features = headed.before_projection(x)
    assert features.shape == (2, 3, 4)
    assert headed.has_projection
    loc, _ = headed.encoder(x)
    expected = headed.encoder.head(headed.encoder.projection(features))[..., :D]
    torch.testing.assert_close(loc, expected)
    assert [layer.out_features for layer in headed.encoder.projection if hasattr(layer, "out_features")] == [7, 6]


def test_without_a_head_nothing_changes():
    _, plain = guide()
    assert not plain.has_projection
    assert not any(name.startswith("encoder.projection") for name in plain.state_dict())


def test_limit_sees_what_comes_after_the_head():
    model, headed = guide([7])
    _, limited = limits.simclr()(model, headed)
    x = torch.randn(2, 2, P)
    assert limited.has_projection
    torch.testing.assert_close(limited.before_projection(x), headed.before_projection(x))


def test_widths_must_be_positive():
    with pytest.raises(InputError, match="widths of the projection"):
        guide([7, 0])


def test_evaluation_scores_both(fit_images, tmp_path):
    from pyro_simvae import commands

    run = fit_images(guide={"class_path": "mean_field", "init_args": {"projection": [6]}})
    scores = commands.evaluate(str(run), metrics=["probes"])["scores"]
    assert {"z", "features", "raw", "untrained"} <= set(scores)
