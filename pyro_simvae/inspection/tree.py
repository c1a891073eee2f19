"""The posterior of a fitted pair over the representations of images, as ArviZ data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from pyro import poutine
from torch import Tensor, nn

from pyro_simvae.conjugate import is_flat
from pyro_simvae.evaluation.representations import evaluating
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.discrete import WithDiscrete, enumerated_sites
from pyro_simvae.inspection.from_pyro import from_pyro
from pyro_simvae.inspection.generated import decoder_is_trained
from pyro_simvae.limits.own_densities import own_densities
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities, present
from pyro_simvae.sites import accepted, is_view, latent_sites, observed_arguments

MOST_VALUES = 2**21
"""Numbers that the decoder gives at once."""

PLATES = {"groups": "group", "views": "view"}
"""Names of dimensions, by the plates of a story."""


class Readable(NamedTuple):
    """A pair as plain programs whose densities are what they say.

    Attributes:
        model, guide: every latent site of the model is one of the guide; no limit weighs their densities.
        decodes: whether the likelihood was fitted.
        left_out: what cannot be had of the pair, with the reason, a line each.
    """

    model: nn.Module
    guide: nn.Module
    decodes: bool
    left_out: list[str]

    @property
    def is_proper(self) -> bool:
        """Whether the story can be drawn from."""
        return self.decodes and not is_flat(getattr(self.model, "content_scale", 1.0))


def readable(pair: LedgerELBO) -> Readable:
    """The story and the guide of a pair, without the weights of a limit, and with the sites that it sums out."""
    decodes, left_out = decoder_is_trained(pair), []
    if decodes:
        own = own_densities(pair)
        model, guide = own.model, own.guide
    else:
        limited: Any = pair.model
        model, guide = limited.story, pair.guide
        left_out.append(
            "likelihood, predictive draws, prior and all that weighs the guide against the story: the run was fitted "
            "under a limit at t = 1, which leaves the decoder untrained and makes the posterior a point"
        )
    if enumerated_sites(model) and "labels" not in observed_arguments(model):
        guide = WithDiscrete(guide, model)
    found = Readable(model, guide, decodes, left_out)
    if decodes and not found.is_proper:
        left_out.append("prior and its predictive draws: flat content is improper, there is nothing to draw")
    return found


def posterior_tree(
    pair: LedgerELBO,
    x: Tensor | Modalities,
    *,
    num_draws: int = 200,
    num_predictive: int = 20,
    seed: int = 0,
    group: Sequence[Any] | None = None,
    constant: Mapping[str, np.ndarray] | None = None,
    densities: bool = True,
    prior: bool = True,
    **observed: Tensor,
) -> xr.DataTree:
    """Draws of the posterior over the representations of groups of views.

        posterior             content (chain, draw, group, latent), z (chain, draw, group, view, latent), the story's
                              other sites; a discrete site that is summed out in the fit, from its exact posterior
        sample_stats          log_p_SITE, log_q_SITE; log_weight (chain, draw, group): log p(x, latents) - log q
        log_likelihood        x (chain, draw, group, view), nats
        posterior_predictive, prior, prior_predictive     `num_predictive` draws
        observed_data         x (group, view, channel, height, width), or (group, view, value)
        constant_data         what was given; where modalities are missing, "present" (group, view): their z is NaN

    `arviz_stats.loo` reads log_likelihood as if the draws were from the exact posterior; `leave_one_view_out` weighs
    them. Of a pair under a limit at t = 1 there are the point's z, the draws of content given z, and the data.

    Args:
        pair: on the device of `x`.
        x: `(N, J, *event)`, or modalities.
        num_draws: S.
        num_predictive: draws that views are drawn for.
        seed: of the draws.
        group: N names of the groups, such as their positions in a split.
        constant: arrays `(N,)`, `(N, J)` or `(N, J, n)` that belong to the groups or the views.
        densities: whether to run the decoder; without it there are the draws of the posterior and the data, for less.
        prior: whether to draw from the prior, where it is proper.
        observed: what the pair observes besides the views.
    """
    parts = readable(pair)
    decodes = parts.decodes and densities
    model = parts.model if decodes else _without_views(parts.model)
    per_draw = sum(view.numel() for view in x.views.values()) if isinstance(x, Modalities) else x.numel()
    if isinstance(parts.guide, WithDiscrete):  # a latent for each value of the site, as long as it is summed over
        latent_dim = latent_sites(parts.model)["z"]["fn"].event_shape.numel()
        per_draw = max(per_draw, parts.guide.num_values * x.shape[0] * x.shape[1] * latent_dim)
    with local_params(parts.model, parts.guide), evaluating(parts.guide), evaluating(parts.model):
        tree = from_pyro(
            lambda x, **given: model(x, **accepted(parts.model, given)),
            lambda x, **given: parts.guide(x, **accepted(parts.guide, given)),
            (x,),
            observed,
            num_draws=num_draws,
            num_predictive=num_predictive if decodes else 0,
            seed=seed,
            parallel=present(x) is None,  # what is missing is told by group, not by draw
            at_once=max(1, MOST_VALUES // per_draw),
            prior=prior and decodes and parts.is_proper,
            dims=event_dims(parts.model, x),
        )
    tree = tree.map_over_datasets(_renamed)
    there = present(x)
    if there is not None:
        constant = {**(constant or {}), "present": there.cpu().numpy()}
    if constant:
        # Not by from_pyro, where a label and a site "label" would share the names of their dimensions.
        tree["constant_data"] = xr.Dataset({name: _constant(name, value) for name, value in constant.items()})
    if decodes:
        tree["sample_stats"] = _with_weights(tree)
    else:
        del tree["sample_stats"]
        dims = event_dims(parts.model, x)
        seen = {f"x_{name}": view for name, view in x.views.items()} if isinstance(x, Modalities) else {"x": x}
        lead = ["group"] if isinstance(x, Modalities) else ["group", "view"]
        views = {name: ([*lead, *dims[name]], view.cpu().numpy()) for name, view in seen.items()}
        tree["observed_data"] = xr.Dataset(views)
    if there is not None:
        posterior = tree["posterior"].to_dataset()
        missing = ~tree["constant_data"]["present"]
        tree["posterior"] = posterior.assign(z=posterior["z"].where(~missing))
    if group is not None:
        tree = tree.map_over_datasets(lambda ds: ds.assign_coords(group=list(group)) if "group" in ds.dims else ds)
    return tree


def event_dims(model: nn.Module, x: Tensor | Modalities) -> dict[str, list[str]]:
    """Names of the event dimensions of a story's sites, by site."""
    sites = latent_sites(model, 2, x.shape[1])
    latent_dim = sites["z"]["fn"].event_shape
    names = {
        name: ["latent"]
        for name, site in sites.items()
        if site["fn"].event_shape == latent_dim and len(latent_dim) == 1
    }
    if "content" in sites and "content" not in names:
        names["content"] = ["shared"]
    kinds = {1: ["value"], 2: ["place", "letter"], 3: ["channel", "height", "width"]}
    if isinstance(x, Tensor):
        return names | {"x": kinds[x.dim() - 2]}
    # Modalities differ in their sizes, so that each has dimensions of its own.
    shapes = {name: [f"{dim}_{name}" for dim in kinds[view.dim() - 1]] for name, view in x.views.items()}
    return names | {f"x_{name}": dims for name, dims in shapes.items()}


def _without_views(model: nn.Module) -> Any:
    """The story's latents alone: its views have no part in the program, and the decoder is not run."""
    return poutine.block(model, hide_fn=lambda msg: msg["type"] == "sample" and is_view(str(msg["name"])))


def _renamed(dataset: xr.Dataset) -> xr.Dataset:
    names = {old: new for old, new in PLATES.items() if old in dataset.dims}
    return dataset.rename(names) if names else dataset


def _constant(name: str, value: np.ndarray) -> tuple[list[str], np.ndarray]:
    return ["group", "view", f"{name}_dim_0"][: np.ndim(value)], np.asarray(value)


def _with_weights(tree: xr.DataTree) -> xr.Dataset:
    """sample_stats with log_weight, and without the totals over groups, which nothing here needs."""
    stats = tree["sample_stats"].to_dataset().drop_vars(["lp", "lq"])
    signed = [value for name, value in stats.items() if str(name).startswith("log_p_")]
    signed += [-value for name, value in stats.items() if str(name).startswith("log_q_")]
    signed += list(tree["log_likelihood"].to_dataset().values())
    of_groups = [value for value in signed if "group" in value.dims]
    total = sum(value.sum([dim for dim in value.dims if dim not in ("chain", "draw", "group")]) for value in of_groups)
    return stats.assign(log_weight=total)
