"""The instance story: every item of the training set is a content of its own."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.checks import in_range, plate_sizes, positive
from pyro_simvae.errors import InputError
from pyro_simvae.likelihoods import Likelihood


class Instance(PyroModule):
    """p(x, z | i) = Π_n Π_j p(z_nj | i_n) p(x_nj | z_nj): SimVAE with a learned content for each of M items.

        index     i_n  observed, else uniform         which item                    (N, 1)
        latent    z_nj ~ Normal(m_i, s² I)            content plus style            (N, J, D)
        view      x_nj ~ likelihood(z_nj)                                           (N, J, *event)

    It is the generative counterpart of instance discrimination. Views of an unknown item have a site "index", which
    `LedgerELBO` and Pyro's `TraceEnum_ELBO` sum out: the other items are then a mixture, at a cost of M N J D numbers.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        num_items: M, groups of the training set, >= 1.
        style_scale: s > 0.

    Raises:
        InputError: M < 1, or a scale that is not positive and finite.
    """

    def __init__(self, likelihood: Likelihood, latent_dim: int, num_items: int, style_scale: float = 0.4) -> None:
        super().__init__()
        if num_items < 1:
            raise InputError(f"num_items is {num_items}: give the number of training groups, 1 or more")
        self.likelihood = likelihood
        self.style_scale = positive("style_scale", style_scale, finite=True)
        self.locs = nn.Parameter(torch.randn(num_items, latent_dim))

    def index(self) -> dist.TorchDistribution:
        return dist.Categorical(logits=self.locs.new_zeros(len(self.locs)), validate_args=False)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return dist.Normal(content, self.style_scale, validate_args=False).to_event(1)

    def forward(
        self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2, index: Tensor | None = None
    ) -> Tensor:
        """The program.

        Args:
            x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior.
            index: positions of the groups in the training set, `(N,)`, in [0, M); None where they are not known.

        Raises:
            InputError: an index outside [0, M), while Pyro's validation is on.
        """
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        if index is not None:
            in_range("index", index, len(self.locs))
        with pyro.plate("groups", num_groups, dim=-2):
            if index is None:
                index = pyro.sample("index", self.index(), infer={"enumerate": "parallel"})
            else:
                index = index.unsqueeze(-1)
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(self.locs[index]))
                return pyro.sample("x", self.likelihood(z), obs=x)
