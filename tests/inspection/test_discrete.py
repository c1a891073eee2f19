"""Discrete sites that the fit sums out."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine

from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inspection.discrete import WithDiscrete, enumerated_sites
from pyro_simvae.likelihoods import Normal
from pyro_simvae.local_params import local_params
from pyro_simvae.models import Mixture
from pyro_simvae.networks import MLP


class Twice(Mixture):
    """A mixture with two discrete sites."""

    def forward(self, x=None, num_groups=1, num_views=2):
        pyro.sample("second", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
        return super().forward(x, num_groups, num_views)


def test_the_extended_guide_has_the_site_with_its_conditional_density():
    network = MLP([4])
    story = Mixture(Normal(network.decoder((5,), 2)), 2, num_clusters=3)
    guide = WithDiscrete(MeanField(story, network.encoder((5,), 2)), story)
    x = torch.randn(4, 2, 5)
    with local_params(story, guide):
        trace = poutine.trace(guide).get_trace(x)
    site, z = trace.nodes["cluster"], trace.nodes["z"]["value"]
    assert site["value"].shape == (4, 1)
    torch.testing.assert_close(site["fn"].probs.squeeze(1), story.responsibilities(z))
    assert enumerated_sites(story) == ["cluster"]
    assert not list(p for name, p in guide.named_parameters() if not name.startswith("guide."))


def test_more_than_one_discrete_site_is_refused():
    network = MLP([4])
    story = Twice(Normal(network.decoder((5,), 2)), 2, num_clusters=3)
    with pytest.raises(InputError, match="only one can be drawn"):
        WithDiscrete(MeanField(Mixture(story.likelihood, 2), network.encoder((5,), 2)), story)


class Coin(Mixture):
    """A mixture of two, whose site is a Bernoulli."""

    def cluster(self):
        return dist.Bernoulli(0.5)

    def forward(self, x=None, num_groups=1, num_views=2):
        self.locs.data = self.locs.data[:2]
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2):
            cluster = pyro.sample("cluster", self.cluster(), infer={"enumerate": "parallel"}).long()
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(self.locs[cluster]))
                return pyro.sample("x", self.likelihood(z), obs=x)


def test_a_site_that_is_no_categorical_is_refused():
    network = MLP([4])
    story = Coin(Normal(network.decoder((5,), 2)), 2, num_clusters=2)
    with pytest.raises(InputError, match="is a Bernoulli, and only a Categorical"):
        WithDiscrete(MeanField(story, network.encoder((5,), 2)), story)
