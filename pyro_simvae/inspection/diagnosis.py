"""Can a guide be trusted? Each group by its draws, and the pair as a whole, in a table and a summary."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection import predictive_checks
from pyro_simvae.inspection.calibration import Calibration, simulate
from pyro_simvae.inspection.groups import Groups
from pyro_simvae.inspection.importance import FEWEST_DRAWS, effective_share, iwae_gap, pareto_k
from pyro_simvae.inspection.loo import leave_one_view_out
from pyro_simvae.inspection.nuts import NutsDraws, log_evidence, sample_posterior
from pyro_simvae.inspection.refinement import Refined, refine, weights_of
from pyro_simvae.inspection.tree import posterior_tree, readable
from pyro_simvae.limits.own_densities import own_densities

MOST_REFINED = 32
"""Groups that are refined: each takes some thousand decoded views."""

MOST_CHECKED = 100
"""Groups of the predictive checks, and their replications."""

STEPS, DRAWS = 200, 200
"""Of refinement, and of the refined guide."""

CHAINS, WARMUP, NUM_DRAWS = 2, 300, 500
"""Of NUTS."""


class Diagnosis(NamedTuple):
    """What was found of a pair.

    Attributes:
        summary: plain values, by diagnostic.
        refined: of the first groups, evenly spaced, at `refined_at`; None where left out.
        refined_at: their positions among the groups.
        calibration: None where left out.
        checks: see `predictive_checks.check`; None where left out.
        left_out: a line each, with the reason.
        weighs: whether the guide was weighed against the story.
    """

    summary: dict[str, Any]
    refined: Refined | None
    refined_at: list[int]
    calibration: Calibration | None
    checks: xr.Dataset | None
    left_out: list[str]
    weighs: bool = False


def table(tree: xr.DataTree) -> pd.DataFrame:
    """A row for each group of a tree, indexed by its name.

    Columns: what is known of the group (label, factors); posterior_scale, the standard deviation of z, root mean square
    over views and dimensions, and content_scale; and, where there are densities, in nats a group: elbo, iwae_gap,
    log_likelihood (mean over draws), loo (leave-one-view-out, sum over views); k_hat; effective_share in (0, 1].
    """
    posterior: Any = tree["posterior"]
    rows: dict[str, Any] = {}
    if "constant_data" in tree.children:
        rows |= {str(name): v.values for name, v in tree["constant_data"].data_vars.items() if v.dims == ("group",)}
    for site, name in (("z", "posterior_scale"), ("content", "content_scale")):
        if site in posterior:
            spread = posterior[site].var(("chain", "draw"))
            rows[name] = np.sqrt(spread.mean([dim for dim in spread.dims if dim != "group"]).values)
    if "sample_stats" in tree.children:
        weights = torch.from_numpy(
            tree["sample_stats"]["log_weight"].stack(s=("chain", "draw")).transpose("s", ...).values
        )
        likelihood = [v.mean(("chain", "draw")) for v in tree["log_likelihood"].data_vars.values()]
        rows["elbo"] = weights.double().mean(0).numpy()
        rows["log_likelihood"] = sum(v.sum([d for d in v.dims if d != "group"]).values for v in likelihood)
        rows["iwae_gap"] = iwae_gap(weights.double()).numpy()
        rows["effective_share"] = effective_share(weights.double()).numpy()
        if len(weights) >= FEWEST_DRAWS:
            rows["k_hat"] = pareto_k(weights).numpy()
            loo = [v for name, v in leave_one_view_out(tree).data_vars.items() if str(name).startswith("elpd")]
            rows["loo"] = sum(v.sum([d for d in v.dims if d != "group"]).values for v in loo)
    return pd.DataFrame(rows, index=pd.Index(posterior["group"].values, name="group"))


def diagnose(
    pair: LedgerELBO, groups: Groups, num_views: int, seed: int, say: Callable[[str], None], densities: bool = True
) -> Diagnosis:
    """Everything that looks at the pair as a whole: amortization gap, calibration, predictive checks.

    Args:
        pair: on the device of the groups.
        groups: those that were inspected.
        num_views: J.
        seed: of all draws.
        say: told what is going on, a line each.
        densities: whether the decoder may be run.
    """
    parts = readable(pair)
    summary: dict[str, Any] = {}
    left_out = list(parts.left_out)
    if not parts.decodes:
        return Diagnosis(summary, None, [], None, None, left_out)
    if not densities:
        left_out.append("all that weighs the guide against the story: it was asked to be left out (--densities false)")
        return Diagnosis(summary, None, [], None, None, left_out)
    if not isinstance(groups.x, Tensor):
        left_out.append("amortization gap, calibration and predictive checks: the views are of several kinds")
        return Diagnosis(summary, None, [], None, None, left_out)
    own = own_densities(pair)
    refined, at = None, spaced(len(groups.x), MOST_REFINED)
    say(f"refining the guide for {len(at)} groups ...")
    try:
        if own is not pair:
            raise InputError("under a limit with 0 < t < 1 the draws have no parameters of their own to refine")
        refined = refine(own, groups.x[at], steps=STEPS, seed=seed, **_rows(groups.observed, at))
        summary["amortization_gap"] = _mean(refined.gap.numpy(force=True))
        weights = weights_of(LedgerELBO(own.model, refined.guide), groups.x[at], DRAWS, **_rows(groups.observed, at))
        summary["refined"] = {
            "k_hat": shares_of(pareto_k(weights).numpy()),
            "iwae_gap": _mean(iwae_gap(weights).numpy(force=True)),
        }
    except InputError as error:
        left_out.append(f"amortization gap: {error}")
    say("calibrating it on views that the story draws ...")
    calibration = None
    try:
        calibration = simulate(pair, num_views=num_views, seed=seed)
        summary["calibration"] = {
            name: {"p_value": p, "coverage": {str(level): c for level, c in calibration.coverage[name].items()}}
            for name, p in calibration.p_value.items()
        }
    except InputError as error:
        left_out.append(f"calibration: {error}")
    say("comparing views that it draws with those that it was given ...")
    few = spaced(len(groups.x), MOST_CHECKED)
    x = groups.x[few]
    drawn = posterior_tree(
        pair,
        x,
        num_draws=MOST_CHECKED,
        num_predictive=MOST_CHECKED,
        seed=seed,
        prior=False,
        **_rows(groups.observed, few),
    )
    predictive: Any = drawn["posterior_predictive"]
    replicated = predictive["x"].values[0]
    checks = predictive_checks.check(x.numpy(force=True), replicated)
    overall = checks["overall"].to_series()
    summary["predictive_checks"] = {str(name): float(p) for name, p in overall.items()}
    return Diagnosis(summary, refined, at, calibration, checks, left_out, weighs=True)


def run_nuts(
    pair: LedgerELBO, groups: Groups, at: int, seed: int, progress: Callable[[], None]
) -> tuple[dict[str, Any], NutsDraws]:
    """The exact posterior of one group, and how far the guide is from it.

    Returns:
        Plain values: log_evidence and its relative error; approximation_gap, log_evidence less the ELBO of the refined
        guide, and amortization_gap, that ELBO less the guide's (neither where the guide has nothing to refine); by site
        "moved", the root mean square distance of the guide's means from the exact ones in exact posterior scales, and
        "scale_ratio", the guide's scale by the exact one, geometric mean; divergences, r_hat, ess, and trouble:
        None, or why not to trust all this. And the draws.
    """
    own = own_densities(pair)
    assert isinstance(groups.x, Tensor)
    x, observed = groups.x[at : at + 1], _rows(groups.observed, [at])
    draws = sample_posterior(own, x, NUM_DRAWS, WARMUP, CHAINS, seed=seed, progress=progress, **observed)
    evidence = log_evidence(own, x, draws, seed=seed, **observed)
    try:
        refined = refine(own, x, steps=STEPS, seed=seed, **observed)
        gaps = {
            "approximation_gap": evidence.log_evidence - float(refined.refined_elbo),
            "amortization_gap": float(refined.gap),
        }
    except InputError:  # a flow, say, has no parameters of one group
        gaps = {}
    by_guide: Any = posterior_tree(pair, x, num_draws=1000, densities=False, seed=seed, **observed)["posterior"]
    found: dict[str, Any] = {
        "log_evidence": evidence.log_evidence,
        "relative_error": evidence.relative_error,
        **gaps,
        "divergences": int(draws.diverging.sum()),
        "at_max_tree_depth": draws.at_max_tree_depth,
        "r_hat": draws.r_hat,
        "ess": draws.ess,
        "trouble": draws.trouble,
    }
    for name, values in draws.samples.items():
        exact = values.double().flatten(0, 1).flatten(1).numpy(force=True)
        guess = by_guide[name].values.reshape(1000, -1).astype(np.float64)
        scale = exact.std(0)
        moved = (guess.mean(0) - exact.mean(0)) / scale
        found[f"moved_{name}"] = float(np.sqrt(np.square(moved).mean()))
        found[f"scale_ratio_{name}"] = float(np.exp(np.log(guess.std(0) / scale).mean()))
    return found, draws


def summary_of(rows: pd.DataFrame) -> dict[str, Any]:
    """The table in a few numbers: means with standard errors over groups, and the shares of k-hat beyond its limits."""
    names = ("elbo", "iwae_gap", "log_likelihood", "loo", "posterior_scale", "content_scale", "effective_share")
    found: dict[str, Any] = {name: _mean(rows[name].to_numpy()) for name in names if name in rows}
    if "k_hat" in rows:
        found["k_hat"] = shares_of(rows["k_hat"].to_numpy())
    return found


def shares_of(k: np.ndarray) -> dict[str, float]:
    """The median of Pareto k, and the shares of groups beyond its limits."""
    return {"median": float(np.median(k)), "above 0.5": float((k > 0.5).mean()), "above 0.7": float((k > 0.7).mean())}


def spaced(count: int, most: int) -> list[int]:
    """At most so many of the positions 0, ..., count - 1, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "se": float(values.std() / max(1, len(values) - 1) ** 0.5)}


def _rows(observed: dict[str, Tensor], at: list[int]) -> dict[str, Any]:
    return {name: values[at] for name, values in observed.items()}
