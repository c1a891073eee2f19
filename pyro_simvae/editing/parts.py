"""What a story is checked and drawn with: the networks around it, and a few groups of real views."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_simvae import components
from pyro_simvae.components import Spec
from pyro_simvae.data import Dataset
from pyro_simvae.data.paired import views_of
from pyro_simvae.experiment import encoder_and_likelihood
from pyro_simvae.inference import rng


class Parts(NamedTuple):
    """What an experiment gives a story and its guide.

    Attributes:
        given: the constructor arguments of the story that the experiment supplies.
        encoder: for the guide.
        x: views, `(N, J, *event)`, or modalities.
        observed: "index" and, where the data has them, "labels" of the groups, each `(N,)`.
    """

    given: dict[str, Any]
    encoder: Any
    x: Any
    observed: dict[str, Tensor]

    def story(self, spec: Spec) -> nn.Module:
        model: nn.Module = components.build("model", spec, **self.given)
        return model

    def guide(self, spec: Spec, model: nn.Module) -> nn.Module:
        guide: nn.Module = components.build("guide", spec, model=model, encoder=self.encoder)
        return guide


def parts(
    data: Spec, network: Spec, likelihood: Spec, latent_dim: int, num_groups: int, num_views: int, seed: int
) -> Parts:
    """Reads the data, draws views of its first groups, and makes encoder and likelihood.

    Args:
        data, network, likelihood: as for `pyro_simvae.commands.fit`.
        latent_dim: D.
        num_groups: N.
        num_views: J; of paired data it is the number of modalities.
        seed: of views and initial weights.

    Raises:
        InputError: whatever of these cannot be used.
    """
    dataset: Dataset = components.build("data", data)
    train = dataset.load().train
    shape: Any = train.event_shape  # of paired data, {modality: that of one view}
    with rng.isolated(seed):
        index = torch.arange(min(num_groups, len(train)))
        images = next(iter(train.batches(index, num_groups, num_views))).images
        x, _ = views_of(components.build("views", dataset.views), shape)(images, num_views)
        encoder, made = encoder_and_likelihood(network, likelihood, shape, latent_dim)
    observed = {"index": index} | ({} if train.labels is None else {"labels": train.labels[index]})
    return Parts({"likelihood": made, "latent_dim": latent_dim, "num_items": len(train)}, encoder, x, observed)
