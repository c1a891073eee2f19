"""Scoring a guide of several modalities: each by itself, from its own views alone, and retrieval between them."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from pyro import distributions as dist
from pyro import poutine
from rich.console import Console
from torch import Tensor, nn

from pyro_simvae.data import Splits
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.evaluation.retrieval import retrieve
from pyro_simvae.evaluation.score import LatentLoc, score
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities


class OneModality(nn.Module):
    """A guide asked for one modality's latent, with all others missing: as if it were a guide of one kind of view.

    Args:
        guide: of `Modalities`.
        name: the modality.
        event_shapes: {modality: the shape of one view}, in the story's order.
    """

    def __init__(self, guide: nn.Module, name: str, event_shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.guide = guide
        self.name = name
        self.event_shapes = dict(event_shapes)

    def latent(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x) for x `(n, 1, *event)`: batch shape `(n, 1)`, event shape `(D,)`; a Normal of its moments."""
        views = {name: x.new_zeros(len(x), *shape) for name, shape in self.event_shapes.items()}
        views[self.name] = x[:, 0]
        place = list(views).index(self.name)
        present = torch.arange(len(views), device=x.device).expand(len(x), -1) == place
        with local_params(self.guide):
            site: Any = poutine.trace(self.guide).get_trace(Modalities(views, present)).nodes["z"]
        latent, only = site["fn"], slice(place, place + 1)
        return dist.Normal(latent.mean[:, only], latent.stddev[:, only], validate_args=False).to_event(1)


def score_modalities(
    splits: Splits, views: Any, guide: nn.Module, untrained: nn.Module, seed: int, console: Console
) -> dict[str, Any]:
    """The scores of each modality's latent, and of retrieval between modalities on the test split.

    Args:
        splits: of paired data.
        views: `PairedViews`.
        guide, untrained, seed, console: as for `score`.

    Returns:
        {"modalities": {modality: as `score`}, "retrieval": {"image to text": {"recall_1", "recall_10", "class"}, ...}}.
    """
    paired: Any = splits
    shapes = paired.train.event_shape
    scores, latents = {}, {}
    for name in shapes:
        console.print(f"{name}:", highlight=False)
        own = Splits(*(split.modality(name) for split in paired))
        guides = OneModality(guide, name, shapes), OneModality(untrained, name, shapes)
        scores[name] = score(own, views.views[name], *guides, seed, console)
        latents[name] = represent(LatentLoc(guides[0]), paired.test.splits[name], views.views[name].plain)
    labels = None if paired.test.labels is None else paired.test.labels.numpy()
    found = {
        f"{query} to {target}": retrieve(latents[query], latents[target], labels)
        for query, target in itertools.permutations(shapes, 2)
    }
    return {"modalities": scores, "retrieval": found}
