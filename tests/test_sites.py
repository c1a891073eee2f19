"""What a story's sites must look like."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule

from pyro_simvae.errors import InputError
from pyro_simvae.sites import check_story


class Story(PyroModule):
    """Content of `shared` dimensions, a latent of `latent_dim`."""

    def __init__(self, shared, latent_dim, event=1):
        super().__init__()
        self.shared, self.latent_dim, self.event = shared, latent_dim, event

    def forward(self, x=None, num_groups=1, num_views=2):
        with pyro.plate("groups", num_groups, dim=-2):
            pyro.sample("content", dist.Normal(torch.zeros(num_groups, 1, self.shared), 1.0).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                base = dist.Normal(torch.zeros(num_groups, num_views, self.latent_dim), 1.0)
                z = pyro.sample("z", base.to_event(self.event))
                return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("shared", [1, 3, 5])
def test_content_may_be_a_part_of_a_latent(shared):
    check_story(Story(shared, 5), 5, 2)


@pytest.mark.parametrize(("shared", "latent_dim", "site"), [(6, 5, "content"), (5, 4, "z")])
def test_other_sizes_are_refused(shared, latent_dim, site):
    with pytest.raises(InputError, match=rf"the story's site '{site}' has batch shape"):
        check_story(Story(shared, latent_dim), 5, 2)
