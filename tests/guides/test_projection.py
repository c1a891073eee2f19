"""The projection head: part of the guide, with representations before and after it."""

import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.encoders import BeforeProjection, feature_encoder
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
    features = headed.encoder.before_projection(x)
    assert features.shape == (2, 3, 4)
    headed.eval()
    loc, scale = headed.encoder(x)
    expected = headed.encoder.head(headed.encoder.projection(features.flatten(0, 1))).view(2, 3, -1)[..., :D]
    torch.testing.assert_close(loc, expected)
    torch.testing.assert_close(headed.encoder.from_features(features), (loc, scale))
    assert [layer.out_features for layer in headed.encoder.projection if hasattr(layer, "out_features")] == [7, 6]


def test_without_a_head_nothing_changes():
    _, plain = guide()
    assert not any(name.startswith("encoder.projection") for name in plain.state_dict())


def test_batch_norm_is_over_groups_and_views():
    _, headed = guide([7])
    x = torch.randn(4, 2, P)
    torch.testing.assert_close(headed.encoder(x)[0].flatten(0, 1), headed.encoder(x.flatten(0, 1))[0])
    torch.testing.assert_close(
        headed.encoder(x)[0], headed.encoder.from_features(headed.encoder.before_projection(x))[0]
    )


def test_features_are_those_before_the_head_under_a_limit_too():
    model, headed = guide([7])
    _, limited = limits.simclr()(model, headed)
    x = torch.randn(6, P)
    encoder = feature_encoder(limited)
    assert encoder is headed.encoder
    torch.testing.assert_close(BeforeProjection(encoder)(x), headed.encoder.features(x))
    assert feature_encoder(torch.nn.Linear(2, 2)) is None


def test_one_view_cannot_be_normalized_in_training():
    _, headed = guide([7])
    with pytest.raises(InputError, match="normalizes over the batch, and here that is one view"):
        headed.encoder(torch.randn(1, 1, P))
    assert headed.eval().encoder(torch.randn(1, 1, P))[0].shape == (1, 1, D)


def test_widths_must_be_positive():
    with pytest.raises(InputError, match="widths of the projection"):
        guide([7, 0])


def test_evaluation_scores_both(fit_images, tmp_path):
    from pyro_simvae import commands

    run = fit_images(guide={"class_path": "mean_field", "init_args": {"projection": [6]}})
    scores = commands.evaluate(str(run), metrics=["probes"])["scores"]
    assert {"z", "features", "raw", "untrained"} <= set(scores)


def test_features_of_an_encoder_without_a_head_are_scored_where_they_are_asked_for(fit_images):
    from pyro_simvae import commands

    run = str(fit_images())
    assert "features" not in commands.evaluate(run, metrics=["probes"])["scores"]
    assert "features" in commands.evaluate(run, metrics=["probes"], representations=["features"])["scores"]
