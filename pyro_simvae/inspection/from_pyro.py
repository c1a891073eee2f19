"""A (model, guide) pair that was fitted by SVI as ArviZ data: a `DataTree` of draws, densities and observations.

It knows nothing of this project's stories. Dimensions take the names of the plates that a site is in.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import arviz_base
import numpy as np
import pyro
import torch
import xarray as xr
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng

DRAWS = "_draws"
"""The plate that draws stand in where they are made at once."""

Program = Callable[..., Any]
Sites = dict[str, dict[str, Any]]


class Variable(NamedTuple):
    """Draws of one site: `(S, *plates, *event)`, and the names of the dimensions behind the first."""

    values: Tensor
    dims: list[str]


def from_pyro(
    model: Program,
    guide: Program,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    num_draws: int = 1000,
    num_predictive: int = 100,
    seed: int = 0,
    parallel: bool = False,
    at_once: int | None = None,
    prior: bool = True,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    constant_data: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Draws from a fitted guide, with what the model makes of them.

    Groups of the tree, with dimensions chain (one), draw, the plates of the site, then those of its event:

        posterior               latent sites from the guide, deterministic sites of the model
        posterior_predictive    observed sites anew, given the first `num_predictive` draws
        log_likelihood          log p(observed | latents), nats, one for each element of the plates
        sample_stats            log_p_SITE and log_q_SITE of each latent site; lp = Σ log p of all sites, lq = Σ log q.
                                An autoguide draws from sites of its own, whose densities are in lq alone
        prior, prior_predictive `num_predictive` draws of the model alone
        observed_data, constant_data

    Args:
        model, guide: as given to `pyro.infer.SVI`; every latent site of the model is one of the guide.
        args, kwargs: what both are called with, observations included.
        num_draws: S.
        num_predictive: draws that observed sites are drawn anew for, at most S.
        seed: of the draws; the caller's random state is left as it was.
        parallel: whether the programs may be run once for many draws, with one more plate to the left; it is much
            faster, and right where all their operations broadcast, as `pyro.infer.Predictive` wants it.
        at_once: draws in a run, where parallel; all by default. Memory depends on it.
        prior: whether the model can be drawn from.
        coords: names of the values of a dimension.
        dims: names of the event dimensions of a site, by site; by default SITE_dim_0, ...
        constant_data: other arrays that belong to the observations; `dims` names their dimensions.

    Raises:
        InputError: a latent site that the guide lacks, a plate that is subsampled, a number of draws that is not
            positive, or draws of different shapes.
    """
    if num_draws < 1:
        raise InputError(f"num_draws is {num_draws}: give 1 or more")
    kwargs = kwargs or {}
    size = num_draws if at_once is None else max(1, min(at_once, num_draws))
    runner = _Runner(model, guide, args, kwargs, dict(dims or {}), size if parallel else 1, parallel)
    groups: dict[str, dict[str, list[Variable]]] = {}
    with torch.no_grad(), rng.isolated(seed):
        for start in range(0, num_draws, runner.size):
            count = min(runner.size, num_draws - start)
            _append(groups, runner.posterior(count, min(count, num_predictive - start)))
        for start in range(0, num_predictive if prior else 0, runner.size):
            _append(groups, runner.prior(min(runner.size, num_predictive - start)))
    arrays, names = _joined(groups)
    data = {**arrays, "observed_data": runner.observed_data()}
    names |= {name: variable.dims for name, variable in runner.observed.items()}
    if constant_data:
        data["constant_data"] = {name: np.asarray(value) for name, value in constant_data.items()}
    return arviz_base.from_dict(
        {group: variables for group, variables in data.items() if variables},
        coords=dict(coords or {}),
        dims={**names, **{name: list(dims[name]) for name in constant_data or {} if dims and name in dims}},
        check_conventions=False,
    )


class _Runner:
    """Runs the programs and keeps their sites."""

    def __init__(
        self,
        model: Program,
        guide: Program,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        dims: dict[str, Sequence[str]],
        size: int,
        parallel: bool,
    ) -> None:
        self.model, self.guide, self.args, self.kwargs, self.dims = model, guide, args, kwargs, dims
        self.size = size
        self.parallel = False
        self.num_plates = 0
        with torch.no_grad(), rng.isolated(0):
            drawn = self._run(guide, 1)
            traced = drawn, self._run(model, 1, _Given({name: site["value"] for name, site in drawn.items()}))
        frames = [frame for sites in traced for site in sites.values() for frame in site["cond_indep_stack"]]
        for frame in frames:
            if frame.full_size is not None and frame.full_size != frame.size:
                raise InputError(
                    f"the plate {frame.name!r} takes {frame.size} of {frame.full_size} anew in every run: call the "
                    "programs with whole plates"
                )
        self.num_plates = max((-frame.dim for frame in frames if frame.vectorized), default=0)
        self.parallel = parallel
        own = {name: site for name, site in traced[1].items() if not site["infer"].get("is_auxiliary")}
        latents = [name for name, site in own.items() if not site["is_observed"]]
        if missing := [name for name in latents if name not in traced[0]]:
            raise InputError(f"the guide lacks the model's site {missing[0]!r}: sample it in the guide, or sum it out")
        self.latents = latents
        # What is deterministic has no batch shape of its own: all that is no plate of a single run is its event.
        self.events = {name: _event_dims(site) for name, site in traced[1].items() if _made(site)}
        observed = {name: site for name, site in own.items() if site["is_observed"] and not _made(site)}
        self.observed = {
            name: self._variable(name, site, site["value"], draws=False) for name, site in observed.items()
        }

    def posterior(self, count: int, predictive: int) -> dict[str, dict[str, Variable]]:
        """`count` draws, the first `predictive` of them with new observations."""
        guide = self._run(self.guide, count)
        replayed = _Given({name: guide[name]["value"] for name in self.latents})
        model = self._run(self.model, count, replayed)
        found: dict[str, dict[str, Variable]] = {"posterior": {}, "sample_stats": {}, "log_likelihood": {}}
        totals = {name: torch.zeros(count, dtype=torch.float64) for name in ("lp", "lq")}
        for kind, sites in (("q", guide), ("p", model)):
            for name, site in sites.items():
                if _made(site):
                    if kind == "p":
                        found["posterior"][name] = self._variable(name, site, site["value"])
                    continue
                log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
                scaled = self._arranged(name, site, scale_and_mask(log_prob, site["scale"], site["mask"]), 0, [])
                totals[f"l{kind}"] += scaled.values.double().reshape(len(scaled.values), -1).sum(1).cpu()
                pointwise = self._arranged(name, site, scale_and_mask(log_prob, 1.0, site["mask"]), 0, [])
                if name in self.observed:
                    found["log_likelihood"][name] = pointwise
                elif name in self.latents:
                    found["sample_stats"][f"log_{kind}_{name}"] = pointwise
                    if kind == "q":
                        found["posterior"][name] = self._variable(name, site, site["value"])
        found["sample_stats"] |= {name: Variable(total, []) for name, total in totals.items()}
        if predictive > 0:
            first = {name: value[:predictive] if self.parallel else value for name, value in replayed.values.items()}
            anew = self._run(self.model, predictive, _Given(first, anew=self.observed))
            found["posterior_predictive"] = {
                name: self._variable(name, anew[name], anew[name]["value"]) for name in self.observed
            }
        return found

    def prior(self, count: int) -> dict[str, dict[str, Variable]]:
        """`count` draws of the model alone."""
        sites = self._run(self.model, count, _Given({}, anew=self.observed))
        named = {*self.latents, *self.observed, *self.events}
        drawn = {name: self._variable(name, site, site["value"]) for name, site in sites.items() if name in named}
        groups = {"prior_predictive": self.observed, "prior": set(drawn) - set(self.observed)}
        return {group: {name: drawn[name] for name in drawn if name in names} for group, names in groups.items()}

    def observed_data(self) -> dict[str, np.ndarray]:
        return {name: variable.values.cpu().numpy() for name, variable in self.observed.items()}

    def _run(self, program: Program, count: int, given: AbstractContextManager[Any] | None = None) -> Sites:
        together: Any = pyro.plate(DRAWS, count, dim=-1 - self.num_plates) if self.parallel else nullcontext()
        with together, given or nullcontext():
            nodes: Any = poutine.trace(program).get_trace(*self.args, **self.kwargs).nodes
        return {name: site for name, site in nodes.items() if site["type"] == "sample" and not site_is_subsample(site)}

    def _variable(self, name: str, site: dict[str, Any], value: Tensor, draws: bool = True) -> Variable:
        """The value of a site as `(S, *plates, *event)`."""
        event = self.events.get(name, len(site["fn"].event_shape))
        names = self.dims.get(name, [f"{name}_dim_{k}" for k in range(event)])
        if len(names) != event:
            raise InputError(f"dims names {len(names)} event dimensions of {name!r}, which has {event}: name each")
        return self._arranged(name, site, value, event, list(names), draws)

    def _arranged(
        self, name: str, site: dict[str, Any], value: Tensor, event: int, event_dims: list[str], draws: bool = True
    ) -> Variable:
        frames = {frame.dim: frame for frame in site["cond_indep_stack"] if frame.vectorized}
        batch, tail = value.shape[: value.dim() - event], value.shape[value.dim() - event :]
        draws_dim = -1 - self.num_plates
        if len(batch) > self.num_plates + 1:
            raise InputError(f"the program's site {name!r} does not broadcast over draws: use parallel=False")
        sizes = [1] * (self.num_plates + 1 - len(batch)) + list(batch)
        value = value.reshape(*sizes, *tail)
        sizes = [frames[dim].size if dim in frames else sizes[dim] for dim in range(draws_dim, 0)]
        value = value.expand(*sizes, *tail)
        dims = list[str]()
        for dim in range(-1, draws_dim, -1):  # from the right, so that places to the left stay
            if dim in frames:
                dims.insert(0, frames[dim].name)
            elif sizes[dim] == 1:
                value = value.squeeze(self.num_plates + 1 + dim)
            else:
                dims.insert(0, f"{name}_batch_{-dim}")
        return Variable(value if draws else value[0], dims + event_dims)


class _Given(Messenger):
    """Sets latent sites to values, and has the observed sites `anew` drawn."""

    def __init__(self, values: Mapping[str, Tensor], anew: Collection[str] = ()) -> None:
        super().__init__()
        self.values = values
        self.anew = anew

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.anew:
            msg["value"], msg["is_observed"], msg["done"] = None, False, False
        elif msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def _made(site: Mapping[str, Any]) -> bool:
    """Whether a site is `pyro.deterministic`."""
    return bool(site["infer"].get("_deterministic"))


def _event_dims(site: Mapping[str, Any]) -> int:
    """Event dimensions of a deterministic site, from a run without draws."""
    plates = max((-frame.dim for frame in site["cond_indep_stack"] if frame.vectorized), default=0)
    return max(0, site["value"].dim() - plates)


def _append(groups: dict[str, dict[str, list[Variable]]], found: Mapping[str, Mapping[str, Variable]]) -> None:
    for group, variables in found.items():
        for name, variable in variables.items():
            held = Variable(variable.values.detach().cpu(), variable.dims)
            groups.setdefault(group, {}).setdefault(name, []).append(held)


def _joined(
    groups: Mapping[str, Mapping[str, list[Variable]]],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[str]]]:
    """Arrays `(1, S, ...)` by group and name, and the names of their dimensions."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    for group, variables in groups.items():
        for name, parts in variables.items():
            arrays.setdefault(group, {})[name] = _stacked(name, [part.values for part in parts])
            names.setdefault(name, parts[0].dims)
    return arrays, names


def _stacked(name: str, parts: Iterable[Tensor]) -> np.ndarray:
    parts = list(parts)
    if len({part.shape[1:] for part in parts}) > 1:
        raise InputError(f"draws of {name!r} differ in shape: leave it out of the program with poutine.block")
    return torch.cat(parts).unsqueeze(0).numpy()
