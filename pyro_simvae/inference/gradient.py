"""The ledger of a batch and its gradient: by running the program, or by replaying what it came to."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from pyro_simvae.errors import InputError, first_line
from pyro_simvae.inference import rng
from pyro_simvae.inference.capture import COMPILED_DRAWS_IN_ORDER, Captured, Inputs, inputs_of, same_layout, signature
from pyro_simvae.inference.elbo import Ledger, LedgerELBO
from pyro_simvae.inference.gather import of_all, world_size
from pyro_simvae.inference.products import onednn_is_faster
from pyro_simvae.inference.settings import Engine
from pyro_simvae.modalities import Modalities

T = TypeVar("T")
UNRELATED = 982_451_653
"""A seed that nobody else takes."""


class Gradient:
    """The gradient of -objective / N, left in `.grad` of a pair's parameters.

    Of several processes that share a batch, N is the groups of all, and each has the gradient of its own part. They
    replay or run the program all alike, since what they send one another must come in the same order.

    A program whose operations do not depend on numbers is captured at the first batch and replayed for all batches of
    the same shapes: the same operations on the same random numbers, to the bit (to rounding with "compile", on a GPU,
    and where `products` has oneDNN do matrix products). Other programs, and other batches, run as they are. What a
    program does in Python besides (prints, hooks, counters) is not repeated.

    Args:
        elbo: the pair.
        likelihood_weight: of log p(x|z) in the objective.
        engine: "eager" never captures; "auto" captures where it can; "graph" refuses what it cannot capture; "compile"
            is "graph" with the operations fused by torch's compiler.
        autocast: the precision of networks.
        backward: from a loss to the gradients of the parameters, where the program itself is run.

    Attributes:
        eager_because: why "auto" runs the program as it is at every step; None where it does not.
    """

    def __init__(
        self,
        elbo: LedgerELBO,
        likelihood_weight: float,
        engine: Engine,
        autocast: Callable[[], AbstractContextManager[Any]],
        backward: Callable[[Tensor], None],
    ) -> None:
        self.elbo = elbo
        self.likelihood_weight = likelihood_weight
        self.engine = engine
        self.autocast = autocast
        self.backward = backward
        self.captured: Captured | None = None
        self.eager_because: str | None = None

    def __call__(
        self, x: Tensor | Modalities, kl_weight: float | Tensor = 1.0, observed: Mapping[str, Tensor] | None = None
    ) -> Ledger:
        """The ledger of a batch.

        Args:
            x: `(N, J, *event)`, or modalities.
            kl_weight: β; a tensor `()` where it changes from step to step.
            observed: what the pair observes besides.

        Raises:
            InputError: engine "graph" or "compile", and a program that cannot be captured.
        """
        observed = observed or {}
        inputs = None if self.engine == "eager" or self.eager_because else inputs_of(x, observed)
        if inputs is not None and isinstance(x, Modalities) and world_size() > 1:
            # Whether modalities are missing, each process knows for its own groups only.
            self.eager_because = "paired data on several devices may miss modalities on one of them"
            inputs = None
        if inputs is None:
            return self.eager(x, kl_weight, observed)
        if isinstance(kl_weight, Tensor):
            inputs["kl_weight"] = kl_weight
        if self.captured is None:
            return self._first(x, kl_weight, observed, inputs)
        if signature(inputs) != self.captured.signature:
            return self.eager(x, kl_weight, observed)
        return self.captured(inputs)

    def check(self, x: Tensor | Modalities, observed: Mapping[str, Tensor]) -> None:
        """Raises InputError where the engine asks for a graph of a program that has none."""
        inputs = inputs_of(x, observed)
        if self.engine in ("graph", "compile") and inputs is not None:
            try:
                Captured(self.elbo, inputs, self.likelihood_weight, autocast=self.autocast)
            except InputError as error:
                raise self._refusal(error) from error

    def _refusal(self, error: InputError) -> InputError:
        return InputError(
            f"--hardware.engine {self.engine} cannot capture this program: {error}; use --hardware.engine eager"
        )

    def eager(self, x: Tensor | Modalities, kl_weight: float | Tensor, observed: Mapping[str, Tensor]) -> Ledger:
        """The ledger by running the program."""
        with self.autocast():
            ledger = self.elbo(x, self.likelihood_weight, kl_weight, **observed)
        self.backward(ledger.objective / -(len(x) * world_size()))
        return ledger._replace(objective=ledger.objective.detach())

    def _first(
        self, x: Tensor | Modalities, kl_weight: float | Tensor, observed: Mapping[str, Tensor], inputs: Inputs
    ) -> Ledger:
        """Captures the program, and keeps the graph if it does on this batch what the program does."""
        random = rng.get_state()
        tensors = [*self.elbo.parameters(), *self.elbo.buffers()]
        before = [tensor.detach().clone() for tensor in tensors]

        def as_before() -> None:
            rng.set_state(random)
            self.elbo.zero_grad()
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)

        def repeated(captured: Captured) -> Ledger:
            try:
                return captured(inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise InputError(f"its operations cannot be repeated ({first_line(error)})") from error

        def compared() -> Ledger:
            expected = self.eager(x, kl_weight, observed)
            gradients = [parameter.grad for parameter in captured.parameters]
            as_before()
            found = repeated(captured)
            if differing := self._differing(expected, found, gradients, captured.parameters, self._is_rough()):
                raise InputError(
                    f"{differing[0]} comes out otherwise when its operations are repeated: the program keeps or draws "
                    "something outside of tensors"
                )
            return found

        try:
            captured = _agreed(lambda: self._capture(kl_weight, inputs))
            as_before()
            found = _agreed(compared)
        except InputError as error:
            as_before()
            if self.engine != "auto":
                raise self._refusal(error) from error
            self.eager_because = str(error)
            return self.eager(x, kl_weight, observed)
        self.captured = captured
        on_cpu = captured.parameters[0].device.type == "cpu"
        if self.engine != "compile" and not all(of_all(on_cpu and onednn_is_faster())):
            return found
        # Both round otherwise, so that the graph was compared without them.
        gradients = [parameter.grad for parameter in captured.parameters]
        as_before()
        if self.engine != "compile":
            captured.use_onednn()
            return captured(inputs)
        captured.compile()
        try:
            _agreed(lambda: repeated(captured))  # the call that compiles, in which some versions of torch draw
        except InputError as error:
            raise self._refusal(error) from error
        as_before()
        compiled = captured(inputs)
        if COMPILED_DRAWS_IN_ORDER:
            differing = self._differing(found, compiled, gradients, captured.parameters, rough=True)
            if any(of_all(differing)):
                raise self._refusal(InputError(f"{(differing or ['another part'])[0]} comes out otherwise compiled"))
        return compiled

    def _capture(self, kl_weight: float | Tensor, inputs: Inputs) -> Captured:
        weight = 1.0 if isinstance(kl_weight, Tensor) else kl_weight
        with rng.isolated(UNRELATED):  # so that what the program draws outside of torch shows when it is compared
            return Captured(self.elbo, inputs, self.likelihood_weight, weight, self.autocast)

    def _differing(
        self,
        expected: Ledger,
        found: Ledger,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[Tensor],
        rough: bool,
    ) -> list[str]:
        """What differs by more than rounding between a step and its repetition, of the same draws.

        On a CPU a replayed step is the program's own to the bit, but for a schedule that the program keeps in Python
        and that moves by little. A GPU may add up in another order each time.

        Args:
            expected, found: the two ledgers.
            gradients: of the first step; those of the second are in `.grad` of the parameters.
            parameters: whose they are.
            rough: rounding may be that of half precision, of which a deep network makes much (in bf16 ResNet-18's
                gradient moves by a third when its operations are fused), so that gradients are compared all together.
        """
        if expected.terms.keys() != found.terms.keys() or expected.limit.keys() != found.limit.keys():
            return ["the set of sites"]
        pairs = {name: (value, found.terms[name]) for name, value in expected.terms.items()}
        pairs |= {name: (value, found.limit[name]) for name, value in expected.limit.items()}
        pairs["objective"] = expected.objective, found.objective
        device = found.objective.device.type
        rtol = 1e-2 if rough else 1e-5 if device == "cpu" else 1e-3
        differing = [n for n, (a, b) in pairs.items() if not torch.allclose(a, b, rtol=rtol, atol=0.0, equal_nan=True)]
        own = [parameter.grad for parameter in parameters]
        for one, other, parameter in zip(gradients, own, parameters, strict=True):
            if (one is None) != (other is None) or (other is not None and not same_layout(other, parameter)):
                return [*differing, "a gradient"]
        both = [(a, b) for a, b in zip(gradients, own, strict=True) if a is not None and b is not None]
        if not both:
            return differing
        sizes = torch.stack([a.norm() for a, _ in both])
        distances = torch.stack([(b - a).norm() for a, b in both])
        if rough:
            near = distances.norm() <= 0.5 * sizes.norm()  # of two that have nothing to do with each other it is √2
        else:
            # What cancels to nothing, as before batch norm, leaves rounding errors of the rest.
            near = (distances <= 10 * rtol * sizes.clamp(min=1e-4 * float(sizes.norm()))).all()
        return differing if near or not sizes.isfinite().all() else [*differing, "a gradient"]

    def _is_rough(self) -> bool:
        """Whether a GPU does products in less than float32; a CPU repeats them to the bit all the same."""
        if next(self.elbo.parameters()).device.type != "cuda":
            return False
        with self.autocast():
            return torch.is_autocast_enabled("cuda") or torch.backends.cuda.matmul.allow_tf32


def _agreed(work: Callable[[], T]) -> T:
    """What `work` gives, unless it is an InputError in any process, which then is one in all."""
    result, error = None, None
    try:
        result = work()
    except InputError as caught:
        error = caught
    if errors := [each for each in of_all(error) if each is not None]:
        raise error or errors[0]
    return cast(T, result)
