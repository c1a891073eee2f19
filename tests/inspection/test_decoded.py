"""Decoding given latents: every story file by its own likelihood, and contents by what the story says of them."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from torch import nn

from pyro_simvae.checks import plate_sizes
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.inspection.decoded import decode, draw_given_content, latent_mean
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import (
    VAE,
    HeavyTails,
    Hierarchical,
    Instance,
    LinearGaussian,
    Mixture,
    Multimodal,
    PrivateStyle,
    Relevance,
    SimVAE,
    Spherical,
)
from pyro_simvae.networks import MLP, Linear

D, SHAPE = 4, (1, 2, 3)

STORIES = {
    "simvae": SimVAE,
    "flat": lambda *args: SimVAE(*args, content_scale=math.inf),
    "vae": VAE,
    "private style": PrivateStyle,
    "heavy tails": HeavyTails,
    "hierarchical": lambda *args: Hierarchical(*args, num_classes=3),
    "relevance": lambda *args: Relevance(*args, num_items=50),
    "mixture": lambda *args: Mixture(*args, num_clusters=3),
    "instance": lambda *args: Instance(*args, num_items=5),
}


def likelihood(network=None):
    return Normal((network or MLP([8])).decoder(SHAPE, D), scale=0.3)


def build(story):
    with rng.isolated(0):
        return story(likelihood(), D).double()


@pytest.fixture
def numbers():
    return np.random.default_rng(0)


class Rotated(nn.Module):
    """A user's story: no attribute is named as the project's are, and the view depends on content besides z."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0, 0, 1]], dtype=torch.float64))

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", dist.Normal(self.weight.new_zeros(1), 1.0).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.Normal(content.expand(-1, num_views, 2), 0.1).to_event(1))
                return pyro.sample("x", dist.Normal(z @ self.weight[:, :2].T + content, 0.1).to_event(1), obs=x)


@pytest.mark.parametrize("name", STORIES)
def test_decodes_as_the_storys_likelihood_does(name, numbers):
    model = build(STORIES[name])
    z = numbers.normal(size=(3, 5, D))
    with torch.no_grad():
        expected = model.likelihood(torch.from_numpy(z)).mean.numpy()
    found = decode(model, z)
    assert found.shape == (3, 5, *SHAPE)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(decode(model, z[0, 0]), expected[0, 0], rtol=1e-12)


def test_runs_in_the_storys_type_and_leaves_no_trace(numbers):
    model = build(SimVAE).float().train()
    before = torch.get_rng_state()
    assert decode(model, numbers.normal(size=(2, D))).dtype == np.float32
    assert model.training
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_view_may_depend_on_content_besides_z():
    z, content = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), np.array([0.25])
    np.testing.assert_allclose(decode(Rotated(), z, content), 2 * z[:, :1] + 0.25)
    np.testing.assert_allclose(latent_mean(Rotated(), np.array([[0.5], [2.0]])), [[0.5, 0.5], [2.0, 2.0]])


def test_latents_of_a_spherical_story_are_scaled_onto_the_sphere(numbers):
    model = build(lambda *args: Spherical(*args, concentration=10.0))
    z = numbers.normal(size=(6, D))
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    np.testing.assert_allclose(decode(model, 7 * z), decode(model, unit), rtol=1e-10)
    with torch.no_grad():
        expected = model.likelihood(torch.from_numpy(unit)[None]).mean[0].numpy()
    np.testing.assert_allclose(decode(model, z), expected, rtol=1e-10)
    np.testing.assert_allclose(latent_mean(model, unit), unit * 10 / (10 + D - 1), rtol=1e-6)


@pytest.mark.parametrize("name", ["simvae", "flat", "heavy tails", "hierarchical", "relevance"])
def test_the_latents_mean_is_the_content(name, numbers):
    content = numbers.normal(size=(3, 2, D))
    np.testing.assert_allclose(latent_mean(build(STORIES[name]), content), content)


def test_the_mean_of_private_dimensions_is_zero(numbers):
    content = numbers.normal(size=(5, 3))
    found = latent_mean(build(lambda *args: PrivateStyle(*args, content_dim=3)), content)
    np.testing.assert_allclose(found, np.pad(content, ((0, 0), (0, 1))))


def test_draws_given_content_have_the_storys_moments(numbers):
    content = numbers.normal(size=(2, 2))
    model = build(lambda *args: PrivateStyle(*args, content_dim=2, style_scale=0.1))
    z = draw_given_content(model, content, 20_000, seed=3)
    assert z.shape == (2, 20_000, D)
    np.testing.assert_allclose(z.mean(1), np.pad(content, ((0, 0), (0, 2))), atol=0.04)
    np.testing.assert_allclose(z.std(1), [[0.1, 0.1, 1, 1]] * 2, rtol=0.05)
    np.testing.assert_array_equal(z, draw_given_content(model, content, 20_000, seed=3))
    assert not np.allclose(z, draw_given_content(model, content, 20_000, seed=4))


def test_sites_that_latents_depend_on_can_be_given():
    scale = np.array([0.01, 0.1, 1.0, 3.0])
    z = draw_given_content(build(STORIES["relevance"]), np.zeros((1, D)), 20_000, given={"style_scale": scale})
    np.testing.assert_allclose(z[0].std(0), scale, rtol=0.05)


def test_a_linear_decoder_is_the_line_that_it_is(numbers):
    with rng.isolated(0):
        model = LinearGaussian(likelihood(Linear()), D).double()
    weight, bias = (p.detach().numpy() for p in model.likelihood.decoder.linear.parameters())
    z = numbers.normal(size=(7, D))
    np.testing.assert_allclose(decode(model, z).reshape(7, -1), z @ weight.T + bias, rtol=1e-10)


def test_stories_that_cannot_be_asked():
    content = np.zeros((2, D))
    with pytest.raises(InputError, match="VAE has no site 'content'"):
        latent_mean(build(VAE), content)
    with pytest.raises(InputError, match="Mixture has no site 'content'"):
        draw_given_content(build(STORIES["mixture"]), content, 3)
    several = Multimodal({"image": likelihood(), "text": likelihood()}, D).double()
    with pytest.raises(InputError, match="Multimodal has no site 'x'"):
        decode(several, content)


class Brightness(SimVAE):
    """Each view has a brightness of its own besides its latent."""

    def forward(self, x=None, num_groups=1, num_views=2):
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", self.content(num_views))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                light = pyro.sample("light", dist.Normal(torch.tensor(2.0), 1.0))
                return pyro.sample("x", dist.Normal(light.unsqueeze(-1) + z, 0.1).to_event(1), obs=x)


def test_other_sites_are_at_their_centre():
    with rng.isolated(0):
        story = Brightness(Normal(MLP([4]).decoder((3,), 3)), 3)
    z = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(decode(story, z), z + 2, rtol=1e-6)
