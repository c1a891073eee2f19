"""Scoring a guide of several modalities: each by itself, from its own views alone, and retrieval between them."""

import itertools
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pyro_simvae.data import Splits
from pyro_simvae.evaluation.encoders import LatentLoc, OneModality
from pyro_simvae.evaluation.features import Features, Prepared
from pyro_simvae.evaluation.representations import raw, represent
from pyro_simvae.evaluation.retrieval import retrieve
from pyro_simvae.evaluation.score import FAMILIES, REPRESENTATIONS, Board, Subject, choose, score_items
from pyro_simvae.evaluation.targets import tables


def score_modalities(
    subject: Subject,
    console: Console,
    metrics: Sequence[str] | None = None,
    representations: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The scores of each modality's latent, and of retrieval between modalities on the test split.

    Only items themselves are scored: neither their views nor the story.

    Args:
        subject: of paired data, with `PairedViews`.
        console, metrics, representations: as for `score`.

    Returns:
        {"modalities": {modality: {representation: {target: {metric: value}}}}, "retrieval": {"image to text":
        {"recall_1", "recall_10", "class"}, ...}}.
    """
    paired: Any = subject.splits
    drawing: Any = subject.views
    shapes = paired.train.event_shape
    asked = choose("representation", representations, REPRESENTATIONS)
    scores, latents = {}, {}
    for name in shapes:
        own = Splits(*(split.modality(name) for split in paired))
        items, plain = tables(own, subject.dataset.content_factors), drawing.views[name].plain
        encoders = {
            "z": LatentLoc(OneModality(subject.pair.guide, name, shapes)),
            "untrained": LatentLoc(OneModality(subject.untrained, name, shapes)),
        }
        board = Board(choose("metric", metrics, FAMILIES))
        for kind in ("z", "raw", "untrained"):
            if kind in asked:
                console.print(f"scoring {name}, {REPRESENTATIONS[kind]} ...", highlight=False)
                made = (raw(s, plain) if kind == "raw" else represent(encoders[kind], s, plain) for s in own)
                score_items(board, kind, Prepared(Features(*made)), items, subject.seed)
        scores[name] = board.scores
        latents[name] = represent(encoders["z"], paired.test.splits[name], plain)
    labels = None if paired.test.labels is None else paired.test.labels.numpy()
    found = {
        f"{query} to {target}": retrieve(latents[query], latents[target], labels)
        for query, target in itertools.permutations(shapes, 2)
    }
    return {"modalities": scores, "retrieval": found}
