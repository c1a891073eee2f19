"""Simulation-based calibration: whether a guide's posteriors are those of the program, over draws of the program."""

from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from scipy import stats
from torch import Tensor

from pyro_simvae.checks import count
from pyro_simvae.conjugate import is_flat
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.bound import MOST_VALUES
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.generated import decoder_is_trained
from pyro_simvae.inspection.importance import LogJoint, draw_latents
from pyro_simvae.limits.own_densities import own_densities
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import latent_sites

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the central intervals."""

MOST_BINS = 20
"""Of a histogram of ranks."""

LOG_JOINT = "log_joint"
"""The name of the ranks of log p(x, latents), beside those of the sites."""


class Calibration(NamedTuple):
    """Ranks of a program's own draws among posterior draws for the views they made.

    Attributes:
        ranks: by site, `(N, F)` or, where each view has its own, `(N, J, F)`, for the F numbers of an event; each in
            0..L, uniform if the guide is the posterior. "log_joint", `(N, 1)`: those of log p(x, latents).
        num_draws: L.
        p_value: by site, of the hypothesis that its ranks are uniform.
        coverage: by site and level, the share of true values in the guide's central intervals, of one dimension each.
        coverage_se: by site and level, its standard error over groups.
    """

    ranks: dict[str, np.ndarray]
    num_draws: int
    p_value: dict[str, float]
    coverage: dict[str, dict[float, float]]
    coverage_se: dict[str, dict[float, float]]


def simulate(
    pair: LedgerELBO, num_groups: int = 500, num_views: int = 2, num_draws: int = 99, seed: int = 0
) -> Calibration:
    """Calibrates the guide on groups that the program draws itself.

    If latents and views are drawn from the program, and L posterior draws are made for the views, then the rank of a
    true number among its L draws is uniform on 0..L. A guide that is too narrow gives ranks at both ends, one that is
    too wide in the middle. A guide that ignores the views and draws from the prior gives uniform ranks, too, but for
    the rank of log p(x, latents), which looks at views and latents together.

    It says how the guide fares on views like the program's, which are those of the data as far as the story fits them.
    Discrete sites that the guide lacks are summed out of the log-density, and have no ranks.

    Args:
        pair: with a decoder, and a proper prior.
        num_groups: N >= 10.
        num_views: J.
        num_draws: L >= 1; the true value is one of L + 1, which best is a multiple of 20.
        seed: of all draws.

    Raises:
        InputError: flat content, an untrained decoder, views of several modalities, a site that all
            groups share, or too few groups or draws.

    Source: Talts et al. 2018 (arXiv:1804.06788); Modrák et al. 2023 (arXiv:2211.02383) for quantities of the data.
    """
    count("num_groups", num_groups, least=10)
    count("num_draws", num_draws)
    if not decoder_is_trained(pair):
        raise InputError(
            "the run was fitted under a limit at t = 1, whose decoder is untrained, so that the program's views are "
            "noise: calibrate a run with t < 1"
        )
    pair = own_densities(pair)
    if is_flat(getattr(pair.model, "content_scale", 1.0)):
        raise InputError("flat content is improper, the program cannot be drawn from: give a finite content_scale")
    for name, site in latent_sites(pair.model).items():
        if not site["cond_indep_stack"]:
            raise InputError(
                f"all groups share {name!r}, so that groups are no independent draws: leave calibration out"
            )
    with torch.no_grad(), local_params(pair), evaluating(pair), rng.isolated(seed):
        ranks = _ranks(pair, num_groups, num_views, num_draws)
    covered = {name: {level: covered_by(of, num_draws, level) for level in LEVELS} for name, of in ranks.items()}
    sites = latent_sites(pair.model).items()
    per_view = {name for name, site in sites if any(frame.dim == -1 for frame in site["cond_indep_stack"])}
    return Calibration(
        {name: of if name in per_view else of.squeeze(1) for name, of in ranks.items()},
        num_draws,
        {name: uniformity(of, num_draws) for name, of in ranks.items()},
        {name: {level: float(share.mean()) for level, share in by.items()} for name, by in covered.items()},
        {name: {level: float(stats.sem(share)) for level, share in by.items()} for name, by in covered.items()},
    )


def uniformity(ranks: np.ndarray, num_draws: int) -> float:
    """The p-value of the hypothesis that the ranks of a site are uniform on 0..L, by chi-squared tests.

    Groups are independent, views and dimensions of a group are not. So one view of each group is looked at, the first
    of the first group, the second of the second, and so on in turn; then each dimension's ranks are independent, and
    each gets a test. The least of F p-values times F holds for tests that depend on each other (Bonferroni; Holm's
    first step).

    Args:
        ranks: `(N, J or 1, F)`, whole numbers in 0..L.
        num_draws: L.
    """
    rows = np.arange(len(ranks))
    of_one_view = ranks[rows, rows % ranks.shape[1]]
    # Five or more groups are expected in a bin, of which each holds as nearly as many ranks as the next.
    bins = np.array_split(np.arange(num_draws + 1), min(MOST_BINS, len(ranks) // 5, num_draws + 1))
    edges = np.array([*(bin[0] for bin in bins), num_draws + 1])
    expected = len(ranks) * np.diff(edges) / (num_draws + 1)
    found = [stats.chisquare(np.histogram(of, edges)[0], expected).pvalue for of in of_one_view.T]
    return min(1.0, len(found) * float(min(found)))


def covered_by(ranks: np.ndarray, num_draws: int, level: float) -> np.ndarray:
    """Of each group, the share of its numbers that lie in the central interval of the level.

    A rank r stands for all quantiles from r / (L + 1) to (r + 1) / (L + 1), and counts by how many of them lie inside,
    so that uniform ranks are covered at just the level, whatever L.

    Args:
        ranks: `(N, ...)`, in 0..L.
        num_draws: L.
        level: in (0, 1).

    Returns:
        `(N,)`, in [0, 1].
    """
    lower, upper = ((num_draws + 1) * (1 + sign * level) / 2 for sign in (-1, 1))
    inside = np.minimum(ranks + 1, upper) - np.maximum(ranks, lower)
    shares: np.ndarray = inside.clip(0, 1).reshape(len(ranks), -1).mean(1)
    return shares


def _ranks(pair: LedgerELBO, num_groups: int, num_views: int, num_draws: int) -> dict[str, np.ndarray]:
    """By site, `(N, J or 1, F)` with F numbers in an event."""
    nodes: Any = poutine.trace(pair.model).get_trace(num_groups=num_groups, num_views=num_views).nodes
    if "x" not in nodes:
        raise InputError("the story's views are of several modalities, which calibration cannot draw: leave it out")
    views, joint = nodes["x"]["value"], LogJoint(pair.model)
    parts: dict[str, list[Tensor]] = {}
    for rows in torch.arange(num_groups).split(max(1, MOST_VALUES // (num_draws * views[0].numel()))):
        x = views[rows]
        draws = draw_latents(pair, x, num_draws, {})
        truth = {name: nodes[name]["value"][rows] for name in draws}
        for name, values in draws.items():
            parts.setdefault(name, []).append((values < truth[name]).sum(0).reshape(*truth[name].shape[:2], -1))
        true_joint = joint(x, {name: value.unsqueeze(0) for name, value in truth.items()})
        parts.setdefault(LOG_JOINT, []).append((joint(x, draws) < true_joint).sum(0).view(-1, 1, 1))
    return {name: torch.cat(of).cpu().numpy() for name, of in parts.items()}
