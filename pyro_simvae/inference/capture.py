"""A step's ledger and gradient as one graph of tensor operations, traced once, replayed without the program's Python.

The program is traced on tensors without numbers: that costs no arithmetic and no memory, whatever in the program
depends on numbers shows itself, and the memory of a step is known before it is taken.
"""

import collections
import contextlib
import functools
import itertools
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.torch_version import TorchVersion

from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import Ledger, LedgerELBO
from pyro_simvae.inference.gather import world_size
from pyro_simvae.inference.products import by_onednn
from pyro_simvae.inference.simplify import simplified, storages
from pyro_simvae.modalities import Modalities

COMPILED_DRAWS_IN_ORDER = TorchVersion(torch.__version__) >= "2.15"  # compared as versions
"""Whether torch's compiler leaves random numbers in the order of the program; that of 2.11 does not."""
FACTORIZATIONS = ("cholesky", "_lu", "_eig", "_svd", "_qr", "_inv", "linalg_det", "slogdet", "linalg_solve_ex")
"""What the names of operations that factorize matrices have in them."""
Inputs = dict[str, Tensor]
"""What a step reads besides the pair's own tensors: x, or x/MODALITY; labels and index; kl_weight where it moves."""


class Captured:
    """The ledger of a pair and the gradient of -objective / N, as a graph of tensor operations.

    Of several processes that share a batch, N is the groups of all.

    Args:
        elbo: the pair; its mode, training or not, is kept.
        inputs: of the shapes to come; dimension 0 of the views is N. Their numbers are not read.
        likelihood_weight, kl_weight: numbers, unless kl_weight is one of the inputs.
        autocast: the precision of networks.

    Raises:
        InputError: the program depends on numbers, or gives a parameter or buffer a new tensor in place of writing into
            the old one; the message says where.
    """

    def __init__(
        self,
        elbo: LedgerELBO,
        inputs: Mapping[str, Tensor],
        likelihood_weight: float = 1.0,
        kl_weight: float = 1.0,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        trained = {name: p for name, p in elbo.named_parameters() if p.requires_grad}
        state = {name: p for name, p in elbo.named_parameters() if not p.requires_grad} | dict(elbo.named_buffers())
        self.parameters, self.state = list(trained.values()), list(state.values())
        self.signature = signature(inputs)
        self.terms: list[str] = []
        self.limit: list[str] = []

        def step(*tensors: Tensor) -> list[Tensor | None]:
            own = dict(zip([*trained, *state], tensors, strict=False))
            given = dict(zip(inputs, tensors[len(own) :], strict=True))
            weight = given.pop("kl_weight", kl_weight)
            x, observed = _views(given)
            bound = dict(own)
            with torch.enable_grad(), autocast():
                ledger = torch.func.functional_call(elbo, bound, (x, likelihood_weight, weight), observed)
            if replaced := [name for name in own if bound[name] is not own[name]]:
                raise InputError(f"it gives {replaced[0]} a new tensor at each step: write into the old one with copy_")
            leaves = [own[name] for name in trained]
            loss = ledger.objective / -(len(x) * world_size())
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            self.terms, self.limit = list(ledger.terms), list(ledger.limit)
            return [
                *_own_memory(gradients, leaves, tensors),
                ledger.objective.detach(),
                *ledger.terms.values(),
                *ledger.limit.values(),
            ]

        position = _Position()
        leaves = [p.detach().requires_grad_() for p in self.parameters]
        try:
            with position, pyro.validation_enabled(False):
                traced = make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(
                    *leaves, *self.state, *inputs.values()
                )
        except InputError:
            raise
        except Exception as error:  # torch has many kinds for this, and they change between its versions
            raise InputError(f"it depends on numbers {position.described(error)}") from error
        self.graph = simplified(traced)
        self.run: Callable[..., Sequence[Tensor | None]] = self.graph.forward

    def use_onednn(self) -> None:
        """Has oneDNN do large matrix products, on a CPU."""
        by_onednn(self.graph)
        self.run = self.graph.forward

    def compile(self) -> None:
        """Has torch's compiler fuse the graph's operations.

        Random numbers stay those of torch's generators, in the program's order where `COMPILED_DRAWS_IN_ORDER`.
        """
        options: dict[str, Any] = {"fallback_random": True}
        self.run = torch.compile(self.graph, fullgraph=True, dynamic=False, options=options)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Ledger:
        """The ledger of inputs of the captured shapes; leaves the gradient in `.grad` of the parameters."""
        with torch.no_grad():
            found: Any = self.run(*self.parameters, *self.state, *inputs.values())
        for parameter, gradient in zip(self.parameters, found, strict=False):
            parameter.grad = gradient
        objective, *values = found[len(self.parameters) :]
        count = len(self.terms)
        terms, limit = dict(zip(self.terms, values, strict=False)), dict(zip(self.limit, values[count:], strict=True))
        return Ledger(objective, terms, limit)

    @functools.cached_property
    def factorizations(self) -> list[str]:
        """Operations that factorize matrices: their libraries may wait for a GPU without torch's knowledge."""
        names = {str(node.target) for node in self.graph.graph.nodes if node.op == "call_function"}
        return sorted(name for name in names if any(kind in name for kind in FACTORIZATIONS))

    @property
    def peak_bytes(self) -> int:
        """The most memory that the step's own tensors take at one time, gradients included."""
        return peak_bytes(self.graph)


def _own_memory(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Iterator[Tensor | None]:
    """Gradients as autograd leaves them in `.grad`: each in memory of its own, laid out as its parameter."""
    taken = {StorageWeakRef(tensor.untyped_storage()) for tensor in inputs}
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is not None:
            storage = StorageWeakRef(gradient.untyped_storage())
            if storage in taken or not same_layout(gradient, parameter):
                gradient = torch.empty_like(parameter).copy_(gradient)
            taken.add(StorageWeakRef(gradient.untyped_storage()))
        yield gradient


def same_layout(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape have their numbers in the same order in memory."""
    sizes = zip(first.shape, first.stride(), second.stride(), strict=True)
    return all(size == 1 or stride == other for size, stride, other in sizes)


def signature(inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """What inputs must have in common for one graph to hold for them."""
    return tuple((name, value.shape, value.dtype, value.device) for name, value in inputs.items())


def inputs_of(x: Tensor | Modalities, observed: Mapping[str, Tensor]) -> Inputs | None:
    """A step's inputs by name; None where modalities are missing, whose numbers change the shapes."""
    if not isinstance(x, Modalities):
        return {"x": x, **observed}
    if x.present is not None:
        return None
    return {f"x/{name}": view for name, view in x.views.items()} | dict(observed)


def _views(inputs: Mapping[str, Tensor]) -> tuple[Tensor | Modalities, Inputs]:
    """What `inputs_of` took apart."""
    views = {name.partition("/")[2]: value for name, value in inputs.items() if name.split("/")[0] == "x"}
    observed = {name: value for name, value in inputs.items() if name.split("/")[0] != "x"}
    return (views[""] if "" in views else Modalities(views)), observed


def peak_bytes(graph: fx.GraphModule) -> int:
    """The most memory that the tensors which a traced graph makes take at one time, in bytes."""
    nodes = list(graph.graph.nodes)
    given = {storage for node in nodes if node.op == "placeholder" for storage in storages(node)}
    sizes: dict[StorageWeakRef, int] = {}
    last_use: dict[StorageWeakRef, int] = {}
    for place, node in enumerate(nodes):
        made = {} if node.op in ("placeholder", "output") else storages(node)
        sizes |= {storage: size for storage, size in made.items() if storage not in given}
        for storage in itertools.chain(made, *map(storages, node.all_input_nodes)):
            last_use[storage] = place
    freed: dict[int, int] = collections.Counter()
    for storage, size in sizes.items():
        freed[last_use[storage]] += size
    now = most = 0
    seen: set[StorageWeakRef] = set()
    for place, node in enumerate(nodes):
        new = {storage for storage in storages(node) if storage in sizes and storage not in seen}
        seen |= new
        now += sum(sizes[storage] for storage in new)
        most = max(most, now)
        now -= freed[place]
    return most


class _Position(Messenger):
    """Knows which sample site was reached last."""

    site: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            self.site = msg["name"]

    def described(self, error: Exception) -> str:
        """Where an error arose: the site, and the line outside the libraries."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
        cause = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}" if frames else error
        return f"{f'at or after the site {self.site!r}' if self.site else 'before its first site'} ({cause})"


@functools.cache
def _libraries() -> tuple[str, ...]:
    here = os.path.dirname(__file__)
    modules = (torch, pyro, contextlib, functools)
    return (here, *(os.path.dirname(str(m.__file__)) if m in (torch, pyro) else str(m.__file__) for m in modules))


def _is_library(file: str) -> bool:
    return file.startswith(_libraries())
