"""Running a program that may be wrong: what it sampled until it stopped, and why it stopped."""

import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyro
import torch
from pyro import distributions as dist
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import TransformedDistribution

from pyro_simvae.distributions import Flat
from pyro_simvae.errors import InputError, first_line
from pyro_simvae.inference import rng
from pyro_simvae.local_params import local_params

SEED = 190_402_399
"""Of a run; one that nobody would set by hand, so that a program which sets its own seed is told apart."""

GROUPS, VIEWS = -2, -1
"""Dims of the two plates."""

Message = dict[str, Any]
"""A sample site as Pyro's handlers see it."""


class Run(NamedTuple):
    """One run of a program.

    Attributes:
        sites: the sample sites by name, in order. Latent values are leaves, so that a gradient stops at them.
        params: the names of `pyro.param` statements, those of registered parameters included.
        seeded: whether the program set the seed of torch's global generator.
        error: what stopped it, or None.
    """

    sites: dict[str, Message]
    params: set[str]
    seeded: bool
    error: Exception | None

    def latents(self) -> dict[str, Message]:
        """The sites that were drawn."""
        return {name: site for name, site in self.sites.items() if not site["is_observed"]}


def record(
    program: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    given: Mapping[str, Message] = MappingProxyType({}),
) -> Run:
    """Runs a program from `SEED`, whatever happens.

    Args:
        program: a story or a guide.
        args, kwargs: its arguments.
        given: sites whose values its latent sites take, as under `poutine.replay`.
    """
    like = next(program.parameters(), torch.zeros(()))
    recorder, error = _Recorder(given, like), None
    with rng.isolated(SEED), local_params(program), pyro.get_param_store().scope():
        try:
            with recorder:
                program(*args, **kwargs)
        except Exception as caught:  # whatever a user's file may raise
            error = caught
        seeded = torch.initial_seed() != SEED
    return Run(recorder.sites, recorder.params, seeded, error)


class _Recorder(Messenger):
    """Keeps the sites of a run, and gives sites of an improper prior a value, since they cannot be drawn."""

    def __init__(self, given: Mapping[str, Message], like: Tensor) -> None:
        super().__init__()
        self.given = given
        self.like = like
        self.sites: dict[str, Message] = {}
        self.params: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.sites and not site_is_subsample(msg):
            raise InputError(f"two sites are called {msg['name']!r}: give each a name of its own")
        if msg["is_observed"] or site_is_subsample(msg):
            return
        if msg["name"] in self.given:
            msg["value"], msg["done"] = self.given[msg["name"]]["value"], True
        elif is_improper(msg["fn"]):
            shape = msg["fn"].batch_shape + msg["fn"].event_shape
            msg["value"], msg["done"] = torch.randn(shape).to(self.like), True

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        value = msg["value"]
        if not msg["is_observed"] and isinstance(value, Tensor) and value.is_floating_point():
            msg["value"] = value.detach().requires_grad_()
        self.sites[msg["name"]] = dict(msg)

    def _pyro_post_param(self, msg: Any) -> None:
        self.params.add(msg["name"])


@contextmanager
def evaluating(*programs: nn.Module) -> Iterator[None]:
    """Inside, dropout and batch statistics are off; no module keeps a trace of having been run."""
    training = [module for program in programs for module in program.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


# -- reading a site ---------------------------------------------------------------------------------------------


def is_improper(fn: Any) -> bool:
    return isinstance(unwrapped(fn), Flat | dist.ImproperUniform)


def is_deterministic(site: Message) -> bool:
    """Whether the site is a function of others, as by `pyro.deterministic`."""
    return bool(site["infer"].get("_deterministic")) or isinstance(unwrapped(site["fn"]), dist.Delta)


def is_enumerated(site: Message) -> bool:
    return site["infer"].get("enumerate") is not None


def is_discrete(site: Message) -> bool:
    try:
        return bool(site["fn"].support.is_discrete)
    except NotImplementedError:  # a distribution of one's own that does not say
        return False


def unwrapped(fn: Any) -> Any:
    """The distribution behind plates, `.to_event` and `.mask`."""
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        fn = fn.base_dist
    return fn


def plates_of(site: Message) -> dict[str, Any]:
    """The frames of the plates that a site is in, by name, from the outermost inwards."""
    return {frame.name: frame for frame in sorted(site["cond_indep_stack"], key=lambda frame: frame.dim or 0)}


def batch_of(site: Message) -> tuple[int, ...]:
    """The batch shape that a site's plates ask for, without leading ones."""
    sizes = {frame.dim: frame.size for frame in site["cond_indep_stack"] if frame.dim is not None}
    return tuple(sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0))


def log_prob(site: Message) -> Tensor:
    """The site's log-density, without scale and mask."""
    value: Tensor = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return value


# -- reading an error -------------------------------------------------------------------------------------------


def site_of(error: Exception) -> Message | None:
    """The sample statement at which a run stopped, as it was written; None where it stopped elsewhere."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        msg = frame.f_locals.get("msg")
        if isinstance(msg, dict) and msg.get("type") == "sample":
            return msg
    return None


def mistake_and_mend(error: Exception) -> tuple[str, str]:
    """The two halves of an `InputError`; of any other error its type and first line, which is all that it has."""
    if isinstance(error, InputError):
        mistake, _, mend = str(error).rpartition(": ")
        return mistake, mend
    return f"{type(error).__name__}: {first_line(error)}", "mend what the message names"


def line_of(error: Exception, cls: type) -> str:
    """The last line of a class's own file that the error passed, as " (line L of FILE)"; "" if it passed none."""
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:  # a class of the interactive prompt
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {lines[-1]} of {Path(file).name})" if file and lines else ""
