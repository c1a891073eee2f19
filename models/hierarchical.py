"""The hierarchical story: a class has items, and an item has views."""

import pyro
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae import conjugate
from pyro_simvae.checks import count, in_range, plate_sizes, positive
from pyro_simvae.distributions import Gaussian
from pyro_simvae.likelihoods import Likelihood


class Hierarchical(PyroModule):
    """p(x, z, c, k) = Π_i p(k_i) p(c_i | k_i) Π_j p(z_ij | c_i) p(x_ij | z_ij): SimVAE with a mixture of K contents.

        label     k_i  ~ Categorical(π)              which class              (N, 1)
        content   c_i  ~ Normal(m_k, g² I)           the class plus its item  (N, 1, D)
        latent    z_ij ~ Normal(c_i, s² I)           content plus style       (N, J, D)
        view      x_ij ~ likelihood(z_ij)                                     (N, J, *event)

    π and m are learned. Unknown labels need no guide: `LedgerELBO` and Pyro's `TraceEnum_ELBO` sum them out, exactly,
    to p(c) = Σ_k π_k p(c | k). Given the latents, `responsibilities` is their exact posterior. The matched guide is
    `MeanField` with amortized content: the content's posterior is a mixture.

    Args:
        likelihood: p(x | z), a decoder with its family.
        latent_dim: D.
        num_classes: K >= 2.
        content_scale: g > 0, of the items of a class.
        style_scale: s > 0, of the views of an item.
        observe_labels: whether a fit shows the story the data's labels: class k is then label k, and the ELBO a bound
            of log p(x, k).

    Raises:
        InputError: K < 2, or a scale that is not positive and finite.

    Source: Kingma, Rezende, Mohamed and Welling 2014 (arXiv:1406.5298) for labels that are observed or summed out.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        num_classes: int = 10,
        content_scale: float = 0.5,
        style_scale: float = 0.2,
        observe_labels: bool = False,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.content_scale = positive("content_scale", content_scale, finite=True)
        self.style_scale = positive("style_scale", style_scale, finite=True)
        self.observes = ("labels",) if observe_labels else ()
        self.logits = nn.Parameter(torch.zeros(count("num_classes", num_classes, least=2)))
        self.locs = nn.Parameter(torch.randn(num_classes, latent_dim))

    def label(self) -> dist.TorchDistribution:
        return dist.Categorical(logits=self.logits, validate_args=False)

    def content(self, label: Tensor) -> dist.TorchDistribution:
        return Gaussian(self.locs[label], self.content_scale)

    def latent(self, content: Tensor) -> dist.TorchDistribution:
        return Gaussian(content, self.style_scale)

    def forward(
        self, x: Tensor | None = None, num_groups: int = 1, num_views: int = 2, labels: Tensor | None = None
    ) -> Tensor:
        """The program.

        Args:
            x: `(N, J, *event)`, or None to draw `num_groups` groups of `num_views` views from the prior.
            labels: of the groups, `(N,)`, in [0, K); None where they are not known.

        Raises:
            InputError: a label outside [0, K), while Pyro's validation is on.
        """
        num_groups, num_views = plate_sizes(x, num_groups, num_views)
        if labels is not None:
            in_range("labels", labels, len(self.locs))
            labels = labels.unsqueeze(-1)
        with pyro.plate("groups", num_groups, dim=-2):
            label = pyro.sample("label", self.label(), obs=labels, infer={"enumerate": "parallel"})
            content = pyro.sample("content", self.content(label))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", self.latent(content))
                return pyro.sample("x", self.likelihood(z), obs=x)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z_1..J), exact, for latents z `(N, J, D)`: `(N, K)`."""
        return self._log_joint(z).softmax(-1)

    def evidence(self, z: Tensor) -> Tensor:
        """log p(z_1..J), exact, in nats, for latents z `(N, J, D)`: `(N,)`."""
        return self._log_joint(z).logsumexp(-1)

    def _log_joint(self, z: Tensor) -> Tensor:
        """log p(k, z_1..J), content integrated out: `(N, K)`."""
        centered = z.unsqueeze(1) - self.locs.unsqueeze(1)  # (N, K, J, D)
        return self.logits.log_softmax(-1) + conjugate.group_evidence(centered, self.style_scale, self.content_scale)
