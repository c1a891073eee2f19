"""The semi-amortized guide: the encoder's Normal for every view's latent, moved by a few steps of the view's own."""

from typing import Any

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_simvae.checks import count, positive
from pyro_simvae.conjugate import is_flat
from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.guides.content import Content, content_guide
from pyro_simvae.guides.extra import extra_latents
from pyro_simvae.guides.program import check_not_directions, encode, sample_latents
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities, present
from pyro_simvae.networks import Encoder, Encoders
from pyro_simvae.sites import accepted, observed_arguments


class SemiAmortized(PyroModule):
    """q(z, c | x) of `MeanField`, with the loc moved from the encoder's up the ELBO of the group itself.

        latent    z_ij ~ Normal(loc_T(x_i), scale(x_ij))     (N, J, D)
        content   c_i  ~ content(z_i)                        (N, 1, C), if the story has this site

    Each of T steps follows the natural gradient, no further than η scales in any dimension:

        loc ← loc + η scale [scale g]            [u] = u within [-1, 1]
        g = ∂/∂z (log p(x, z, c) - log q(c | z)) at z = loc, with c the mean of q(c | z)

    g is the ELBO's gradient E_q[∂/∂z log p(x, z)] with its expectation taken at the mean of q: exact where log p is
    quadratic in z, and free of draws, so that q(z | x) is a function of the group's views. The scale stays the
    encoder's: its gradient takes draws, whose noise costs more than a few steps gain. The gradient of the loss is taken
    at the moved loc and passed on to the encoder as it is, without derivatives of the steps.

    Args:
        model: the story.
        encoder: from `(*batch, *event)` to loc and scale, `(*batch, D)`; or one a modality.
        steps: T >= 1; each decodes all views once.
        learning_rate: η > 0. In a Gaussian posterior of precision Λ the steps are stable while η times the largest
            eigenvalue of diag(scale) Λ diag(scale) is below 2; the best mean field has ones on its diagonal.
        content: as in `MeanField`.

    Raises:
        InputError: what `MeanField` refuses; a number that is not positive; flat content, under which a view that is
            encoded by itself has no ELBO.

    Source: Kim, Wiseman, Miller, Sontag and Rush 2018, *Semi-amortized variational autoencoders* (arXiv:1802.02550),
        here to first order, by natural gradients and of the loc.
    """

    runs_model = True
    """Its posterior depends on the decoder: there is none under a limit, which leaves the decoder alone."""

    def __init__(
        self,
        model: nn.Module,
        encoder: Encoder | Encoders,
        steps: int = 4,
        learning_rate: float = 0.3,
        content: Content = "auto",
    ) -> None:
        super().__init__()
        check_not_directions(model)
        if is_flat(getattr(model, "content_scale", 1.0)):
            raise InputError(
                "under flat content a view by itself has no ELBO to move its posterior by: "
                "give a finite content_scale, or use --guide mean_field"
            )
        self.encoder = encoder
        self.steps = count("steps", steps)
        self.learning_rate = positive("learning_rate", learning_rate, finite=True)
        self.content = content_guide(model, encoder.latent_dim, content)
        self.extra = extra_latents(model, encoder)
        # Held out of reach of torch's module tree: the story's parameters are the story's, not the guide's.
        self._story: tuple[Any] = (model,)

    @property
    def observes(self) -> set[str]:
        """What of "labels" and "index" the story asks for, and so its ELBO."""
        return observed_arguments(self._story[0])

    def latent(self, x: Tensor | Modalities, **observed: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(N, J, *event)`, or modalities: batch shape `(N, J)`, event shape `(D,)`."""
        return self._latent(x, observed)[0]

    def forward(self, x: Tensor | Modalities, **observed: Tensor) -> None:
        """x: `(N, J, *event)`, or modalities; observed: what the story observes besides, each `(N,)`."""
        latent, features = self._latent(x, observed)
        sample_latents(x, latent, self.content, self.extra, features)

    def _latent(
        self, x: Tensor | Modalities, observed: dict[str, Tensor]
    ) -> tuple[dist.TorchDistribution, Tensor | None]:
        """The moved posterior, and the encoder's features where a further site reads them."""
        features, given = None, {}
        if self.extra is None:
            loc, scale = self.encoder(x)
        else:
            assert isinstance(self.encoder, Encoder)
            assert isinstance(x, Tensor)
            features, loc, scale = encode(self.encoder, x)
            given = self.extra.centers(features)
        moved = loc.detach()
        with torch.enable_grad():
            for _ in range(self.steps):
                moved.requires_grad_()
                (gradient,) = torch.autograd.grad(self._log_ratio(x, moved, given, observed), moved)
                moved = moved.detach() + self.learning_rate * scale.detach() * (scale.detach() * gradient).clamp(-1, 1)
        return Gaussian(loc + (moved - loc).detach(), scale), features

    def _log_ratio(
        self, x: Tensor | Modalities, z: Tensor, given: dict[str, Tensor], observed: dict[str, Tensor]
    ) -> Tensor:
        """log p(x, z, c) - log q(c | z) at the mean c of q(c | z), over all groups; discrete sites are summed out.

        given: the story's further latents, by name.
        """
        (story,) = self._story
        values, log_q = {name: value.detach() for name, value in given.items()} | {"z": z}, z.new_zeros(())
        # Neither the guide's handlers nor a trace of the guide may see this run of the story.
        with local_params(story), poutine.block():
            if self.content is not None:
                content = self.content(z, present(x))
                values["content"] = content.mean
                log_q = content.log_prob(content.mean).sum()
            program = poutine.condition(story, values)
            elbo = TraceEnum_ELBO(max_plate_nesting=2, strict_enumeration_warning=False)
            loss: Any = elbo.differentiable_loss(program, _no_guide, x, **accepted(story, observed))
        return -loss - log_q


def _no_guide(*_: Any, **__: Any) -> None:
    """The guide of a program whose latents are given."""
