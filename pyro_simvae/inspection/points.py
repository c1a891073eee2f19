"""What the explorer shows of a run: every image with its posterior, its reconstruction and its diagnostics."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_simvae.data import Split
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.bound import view_at_loc
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.fitted import Run
from pyro_simvae.inspection.diagnosis import table
from pyro_simvae.inspection.explorer import Points
from pyro_simvae.inspection.groups import groups_of
from pyro_simvae.inspection.tree import posterior_tree, readable
from pyro_simvae.limits.own_densities import own_densities

AT_ONCE = 250
"""Groups whose posterior is drawn at once."""

DIAGNOSTICS = ("k_hat", "elbo", "iwae_gap", "loo", "log_likelihood", "posterior_scale", "content_scale")


def points_of(run: Run, items: Split, index: Tensor, num_draws: int, seed: int, done: Callable[[int], Any]) -> Points:
    """The items at `index` `(M,)`, each with a group of views.

    Args:
        run: the run.
        items: a split of its data.
        index: positions in the split.
        num_draws: S, of the posterior of each.
        seed: of views and draws.
        done: told how many more are done.

    Raises:
        InputError: views that are no images.
    """
    pair, config = run.experiment.pair, run.config
    shape: Any = items.event_shape
    if isinstance(shape, Mapping) or len(shape) != 3:
        raise InputError("the explorer shows images, and these views are none: use pyro-simvae inspect")
    parts = readable(pair)
    arrays: dict[str, list[np.ndarray]] = {}
    tables: list[pd.DataFrame] = []
    for start, part in zip(range(0, len(index), AT_ONCE), index.split(AT_ONCE), strict=True):
        # Parts have seeds of their own, lest their views and draws be the same.
        views, at = run.experiment.views, seed + start
        groups = groups_of(items, views, part, config.training.num_views, at, pair.observes)
        assert isinstance(groups.x, Tensor)
        observed: dict[str, Any] = groups.observed
        tree = posterior_tree(
            pair,
            groups.x,
            num_draws=num_draws,
            num_predictive=0,
            seed=at,
            group=part.tolist(),
            constant=groups.known,
            **observed,
        )
        tables.append(table(tree))
        found = {"images": groups.x.numpy(force=True)}
        for site in {"z", "content"} & set(tree["posterior"].data_vars):
            draws: Any = tree["posterior"][str(site)]
            found |= {f"{site}_loc": draws.mean(("chain", "draw")).values}
            found |= {f"{site}_scale": draws.std(("chain", "draw")).values}
        if parts.decodes:
            own = own_densities(pair)
            with torch.no_grad(), evaluating(own):
                found["reconstructions"] = view_at_loc(own, groups.x, groups.observed).mean.numpy(force=True)
        for name, values in found.items():
            arrays.setdefault(name, []).append(values)
        done(len(part))
    rows = pd.concat(tables)
    factors = [name for name in items.factors if name in rows]
    given: Any = {name: np.concatenate(values) for name, values in arrays.items()}
    classes = run.experiment.dataset.classes
    return Points(
        **given,
        labels=rows["label"].to_numpy() if "label" in rows else None,
        class_names=classes if "label" in rows else None,
        factors={name: rows[name].to_numpy() for name in factors},
        diagnostics={name: rows[name].to_numpy() for name in DIAGNOSTICS if name in rows},
    )
