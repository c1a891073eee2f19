"""Scoring a fitted pair: every family of metrics, on every representation that it has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import nn

from pyro_simvae.data import Dataset, Split, Splits, Views
from pyro_simvae.errors import unknown_name
from pyro_simvae.evaluation.clustering import cluster
from pyro_simvae.evaluation.disentanglement import disentangle
from pyro_simvae.evaluation.encoders import BeforeProjection, LatentLoc, feature_encoder
from pyro_simvae.evaluation.features import Features, Labels, Prepared, Targets
from pyro_simvae.evaluation.few_labels import few_label_curve
from pyro_simvae.evaluation.generation import generate
from pyro_simvae.evaluation.health import health
from pyro_simvae.evaluation.probes import classify, probe_factors
from pyro_simvae.evaluation.representations import Viewed, posteriors, raw, represent, represent_views
from pyro_simvae.evaluation.targets import Tables, of_views, periods_of, tables
from pyro_simvae.evaluation.trust import foreign, foreign_to, ood_auroc, ood_bound_auroc, trust
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO

FAMILIES = {
    "probes": "labels and factors by k-NN, linear and MLP probes",
    "style": "what views were drawn with, by linear, k-NN and kernel probes; content and style apart",
    "clusters": "k-means and Gaussian mixture against labels",
    "few_labels": "logistic regression from a few labels a class",
    "disentanglement": "MIG and DCI over the known factors",
    "health": "effective rank, active units, spread, alignment and uniformity",
    "trust": "calibration and selective accuracy of posterior draws, out-of-distribution detection",
    "generation": "importance-weighted bound, reconstruction, Fréchet distance",
}
"""The families of metrics, by the name that `--metrics` takes."""

OF_ITEMS = {"probes", "clusters", "few_labels", "disentanglement"}
"""The families that look at items without augmentation, in any representation."""

REPRESENTATIONS = {
    "z": "latent loc",
    "content": "content",
    "style": "style, z - content",
    "features": "features",
    "raw": "raw input",
    "untrained": "untrained encoder",
    "story": "generative story",
}
"""What is scored, by the name that `--representations` takes."""

VIEWS = 4
"""Views a group that content is read from, where the data draws so many: of two, half of the style would stay in it."""

MOST_VIEWED = 10_000
"""Items a split of which views are drawn and probed."""

MOST_PAIRS = 2_000
"""Test items whose views are compared with each other."""

NUM_DRAWS = 20
"""Posterior draws of each test item's latent."""

Scores = dict[str, dict[str, dict[str, float]]]
"""{representation: {target: {metric: value}}}; the target is "label", a factor, "factors", or "none"."""


class Evaluation(NamedTuple):
    """What was found.

    Attributes:
        scores: by representation, target and metric.
        content_targets, style_targets: which of the targets the views of a group share, and which they do not.
        left_out: what could not be scored, with the reason, a line each.
    """

    scores: Scores
    content_targets: list[str]
    style_targets: list[str]
    left_out: list[str]


class Subject(NamedTuple):
    """What is scored.

    Attributes:
        pair: fitted; on the device of the splits.
        untrained: a guide with its initial weights.
        splits: the data.
        views: what its views are drawn with; the plain form makes what is represented.
        dataset: where they come from; says which factors are content.
        num_views: J of the fit.
        seed: of probes, views and draws.
    """

    pair: LedgerELBO
    untrained: nn.Module
    splits: Splits
    views: Views
    dataset: Dataset
    num_views: int
    seed: int


def choose(kind: str, names: Sequence[str] | None, known: Mapping[str, str]) -> list[str]:
    """The names asked for, all by default. Raises InputError for an unknown one, with the nearest."""
    names = [names] if isinstance(names, str) else names
    for name in names or []:
        if name not in known:
            raise unknown_name(kind, name, known)
    return [name for name in known if names is None or name in names]


def score(
    subject: Subject,
    console: Console,
    metrics: Sequence[str] | None = None,
    representations: Sequence[str] | None = None,
) -> Evaluation:
    """Scores of every representation; whatever is chosen is chosen on valid, and test is scored once.

    Args:
        subject: the pair and its data.
        console: gets a line for each representation before it is scored.
        metrics: of `FAMILIES`; all by default.
        representations: of `REPRESENTATIONS`; all that there are by default, but features only of a guide with a
            projection head.

    Raises:
        InputError: an unknown metric or representation; labels or factors that cannot be probed.
    """
    families = choose("metric", metrics, FAMILIES)
    asked = choose("representation", representations, REPRESENTATIONS)
    items = tables(subject.splits, subject.dataset.content_factors)
    board = Board(families)
    if items.labels is None:
        board.left_out.append("whatever needs labels: the data has none")
    for name, make in _makers(subject, asked, representations is not None):
        if name != "z" and not set(families) & OF_ITEMS:
            continue
        console.print(f"scoring {REPRESENTATIONS[name]} ...", highlight=False)
        prepared = Prepared(Features(*(make(split) for split in subject.splits)))
        score_items(board, name, prepared, items, subject.seed)
        if name == "z":
            _score_latent(board, prepared, items, subject)
    shown: list[str] = []
    if "style" in families:
        shown = _score_views(board, asked, items, subject, console)
    if "story" in asked and "generation" in families:
        console.print("scoring the generative story ...", highlight=False)
        _score_story(board, subject)
    content = [*(["label"] if items.labels is not None else []), *(n for n in items.factors if n in items.content)]
    style = dict.fromkeys([*items.style, *(name for name in shown if name not in items.content)])
    return Evaluation(board.scores, content, list(style), board.left_out)


def score_items(board: "Board", name: str, prepared: Prepared, items: Tables, seed: int) -> None:
    """The metrics of one representation of the items themselves, without augmentation.

    Args:
        board: gets the scores.
        name: of the representation.
        prepared: it.
        items: labels and factors.
        seed: of the probes.
    """
    labels = items.labels
    if labels is not None:
        board.add(name, "label", "probes", lambda: classify(prepared, labels, seed))
        board.add(name, "label", "clusters", lambda: cluster(prepared, labels, seed))
        board.add(name, "label", "few_labels", lambda: few_label_curve(prepared, labels, seed))
    if items.factors and name != "raw":  # regressions on thousands of pixels would take longer than all else
        board.add_factors(name, "probes", prepared, items.factors, periods_of(items.factors, items))
        board.add(name, "factors", "disentanglement", lambda: disentangle(prepared.raw, items.factors, seed))


class Board:
    """The scores of the families that are wanted."""

    def __init__(self, families: Sequence[str]) -> None:
        self.families = families
        self.scores: Scores = {}
        self.left_out: list[str] = []

    def add(self, name: str, target: str, family: str, compute: Callable[[], Mapping[str, float]]) -> None:
        """Computes the scores of a representation, if their family is wanted."""
        if family in self.families and (found := compute()):
            self.scores.setdefault(name, {}).setdefault(target, {}).update(found)

    def add_factors(
        self,
        name: str,
        family: str,
        prepared: Prepared,
        factors: Mapping[str, Labels | Targets],
        periods: Mapping[str, float],
    ) -> None:
        """Probes each factor, if the family is wanted."""
        if family not in self.families:
            return
        found, left_out = probe_factors(prepared, factors, periods)
        for factor, scores in found.items():
            self.scores.setdefault(name, {}).setdefault(factor, {}).update(scores)
        self.left_out += [line for line in left_out if line not in self.left_out]


def _makers(subject: Subject, asked: Sequence[str], given: bool) -> Iterator[tuple[str, Callable[[Split], np.ndarray]]]:
    """The representations of items without augmentation, and how each is made of a split.

    Features are the encoder's before a projection head; without one only where they are asked for by name, as they may
    have thousands of dimensions.
    """
    guide, plain = subject.pair.guide, subject.views.plain
    makers: dict[str, Callable[[Split], np.ndarray]] = {
        "z": lambda split: represent(LatentLoc(guide), split, plain),
        "raw": lambda split: raw(split, plain),
        "untrained": lambda split: represent(LatentLoc(subject.untrained), split, plain),
    }
    encoder = feature_encoder(guide)
    if encoder is not None and (given or len(encoder.projection)):
        makers["features"] = lambda split: represent(BeforeProjection(encoder), split, plain)
    return ((name, makers[name]) for name in asked if name in makers)


@torch.no_grad()
def _score_latent(board: Board, prepared: Prepared, items: Tables, subject: Subject) -> None:
    """Health and trust of the latent."""
    guide, test, labels = subject.pair.guide, subject.splits.test, items.labels
    plain = subject.views.plain
    latents = posteriors(guide, test, plain)
    scale = torch.cat([latent.stddev.squeeze(1).float() for latent in latents]).cpu().numpy()

    def found() -> dict[str, float]:
        viewed = _viewed(subject, guide, test, keep=2, most=MOST_PAIRS)
        return health(prepared.raw.test, viewed.z, scale, None if labels is None else labels.test)

    board.add("z", "none", "health", found)
    if "trust" not in board.families:
        return
    if labels is not None:
        with rng.isolated(subject.seed):
            draws = (
                torch.cat([latent.sample().squeeze(1).float() for latent in latents]).cpu().numpy()
                for _ in range(NUM_DRAWS if scale.any() else 1)
            )
            board.add("z", "label", "trust", lambda: trust(prepared, labels, draws))
    if len(test.event_shape) == 3:
        _score_foreign(board, prepared.raw, subject)


def _score_foreign(board: Board, features: Features, subject: Subject) -> None:
    """Telling test images from those of another data set."""
    test, plain = subject.splits.test, subject.views.plain
    device = plain(test.images(torch.arange(1))).device
    for name in foreign_to(subject.dataset):
        other = foreign(name, test.event_shape).to(device)
        z = represent(LatentLoc(subject.pair.guide), other, plain)
        board.add("z", "none", "trust", lambda: {f"ood_{name}": ood_auroc(features.train, features.test, z)})  # noqa: B023 (called at once)
        bound = ood_bound_auroc(subject.pair, test, other, plain, subject.seed)
        if bound is not None:
            board.add("story", "none", "trust", lambda: {f"ood_{name}": bound})  # noqa: B023


def _viewed(subject: Subject, guide: nn.Module, split: Split, keep: int = 1, most: int = MOST_VIEWED) -> Viewed:
    wanted = max(VIEWS, subject.num_views)
    num_views = wanted if split.most_views is None else min(wanted, split.most_views)
    return represent_views(guide, split, subject.views, num_views, subject.seed, keep, most)


def _score_views(board: Board, asked: Sequence[str], items: Tables, subject: Subject, console: Console) -> list[str]:
    """What representations of views keep of what these were drawn with. Returns its names."""
    shown: list[str] = []
    guides = {"z": subject.pair.guide, "untrained": subject.untrained}
    for name, guide in guides.items():
        parts = {"z", "content", "style"} if name == "z" else {name}
        if not parts & set(asked):
            continue
        console.print(f"scoring views, {REPRESENTATIONS[name]} ...", highlight=False)
        train, valid, test = (_viewed(subject, guide, split) for split in subject.splits)
        drawn = of_views((train, valid, test), items)
        shown = list(drawn)
        # The latent of an item itself has been asked for its factors already.
        own = {target: values for target, values in drawn.items() if target not in items.factors}
        if name in asked and own:
            prepared = Prepared(Features(train.z[:, 0], valid.z[:, 0], test.z[:, 0]))
            board.add_factors(name, "style", prepared, own, {})
        if name != "z" or train.content is None:
            continue
        for part in ("content", "style"):
            if part in asked:
                features = Features(*(getattr(split, part) for split in (train, valid, test)))
                prepared = Prepared(features)
                board.add_factors(part, "style", prepared, drawn, periods_of(drawn, items))
                if items.labels is not None:
                    labels = Labels(*(split[: len(found)] for split, found in zip(items.labels, features, strict=True)))
                    board.add(part, "label", "style", lambda p=prepared, y=labels: classify(p, y, subject.seed))  # type: ignore[misc]
    return shown


def _score_story(board: Board, subject: Subject) -> None:
    scores, left_out = generate(subject.pair, subject.splits, subject.views, subject.num_views, subject.seed)
    board.add("story", "none", "generation", lambda: scores)
    board.left_out += left_out
