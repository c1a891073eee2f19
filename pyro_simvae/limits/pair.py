"""The (model, guide) pair of a limit: the user's own programs, run under the limit's handlers."""

from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from torch import Tensor, nn

from pyro_simvae.errors import InputError
from pyro_simvae.limits.geometry import euclidean, sphere
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.handlers import EntropyForLikelihood, PointPosterior
from pyro_simvae.limits.latents import GaussianLatents, Latents, TracedLatents, is_gaussian
from pyro_simvae.limits.precision import in_full
from pyro_simvae.modalities import Modalities, present
from pyro_simvae.sites import accepted, latent_sites, observed_arguments

if TYPE_CHECKING:
    from pyro_simvae.limits.limit import Limit


class LimitModel(nn.Module):
    """A story under a limit: the same program, with an entropy in place of its likelihood.

    Args:
        model: the story.
        limit: built for its latent dimension.

    Raises:
        InputError: a story whose latents have no closed form and cannot be integrated.
    """

    def __init__(self, model: nn.Module, limit: "Limit") -> None:
        super().__init__()
        self.story = model
        self.limit = limit
        self.dim = latent_sites(model)["z"]["fn"].event_shape[0]
        self._gaussian = is_gaussian(model)

    @property
    def latents(self) -> Latents:
        """The densities of the story's latents as it stands, in the units of the limit's representations."""
        story: Any = self.story
        gaussian = self._gaussian
        latents: Latents = GaussianLatents(story.style_scale, story.content_scale) if gaussian else TracedLatents(story)
        latents.unit = self.limit.unit(latents, self.dim)
        return latents

    @property
    def observes(self) -> set[str]:
        """What of "labels" and "index" the limit or the story asks for."""
        return {*self.limit.observes} | observed_arguments(self.story)

    def forward(
        self, x: Tensor | Modalities | None = None, num_groups: int = 1, num_views: int = 2, **observed: Tensor
    ) -> Any:
        """x: views or modalities, and `labels` or `index` `(N,)` for limits that observe them; without x, the prior."""
        if x is None:
            return self.story(None, num_groups, num_views)
        limit = self.limit
        if present(x) is not None:
            raise InputError(
                f"{type(limit).__name__} compares all views of a group, and some groups lack a modality: "
                "leave those out, or fit the story itself, which marginalises it"
            )
        target = None if limit.teacher is None else limit.teacher(x)
        if target is not None:
            with in_full(target):
                target = limit.geometry(target)
        given = Given(target, observed.get("labels"), observed.get("index"))
        limit.check(x, given)
        if not pyro.settings.get("module_local_params"):
            pyro.module("limit", limit)  # so that Pyro's own optimizers find the limit's parameters
        handler = EntropyForLikelihood(limit, self.latents, given)
        with handler:
            result = self.story(x, **accepted(self.story, observed))
        handler.score()
        return result


class LimitGuide(nn.Module):
    """A guide under a limit: the same program, collapsed towards a point in the limit's geometry.

    Args:
        guide: the guide.
        limit_model: the story under the same limit.
    """

    def __init__(self, guide: nn.Module, limit_model: LimitModel) -> None:
        super().__init__()
        self.guide = guide
        # Held out of reach of torch's module tree: the limit's state is stored once, with the model.
        self._limit_model = (limit_model,)

    @property
    def observes(self) -> set[str]:
        """What of "labels" and "index" the guide asks for."""
        return observed_arguments(self.guide)

    def forward(self, x: Tensor | Modalities, **observed: Tensor) -> Any:
        """x: `(N, J, *event)`, or modalities."""
        (model,) = self._limit_model
        limit = model.limit
        if self.training and torch.is_grad_enabled():
            limit.follow(self.guide)
        with PointPosterior(limit, model.latents.unit, limit.geometry):
            return self.guide(x, **accepted(self.guide, observed))

    def latent(self, x: Tensor | Modalities) -> dist.TorchDistribution:
        """q(z | x) of views or modalities x: batch shape `(N, J)`, event shape `(D,)`; without batch statistics."""
        (model,) = self._limit_model
        limit = model.limit
        geometry = limit.geometry if limit.geometry is sphere else euclidean
        with PointPosterior(limit, model.latents.unit, geometry):
            site: Any = poutine.trace(self.guide).get_trace(x).nodes["z"]
        return site["fn"]
