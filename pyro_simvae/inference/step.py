"""One step of SVI: from the images of a batch to moved weights."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from pyro_simvae.data import Views
from pyro_simvae.errors import InputError, first_line
from pyro_simvae.inference import rng
from pyro_simvae.inference.cuda_graph import CUDAGraph
from pyro_simvae.inference.elbo import Ledger, LedgerELBO
from pyro_simvae.inference.gradient import Gradient
from pyro_simvae.inference.processes import Joint
from pyro_simvae.inference.settings import Engine, Training


class Step:
    """Draws the views of a batch, takes the gradient of -objective / N, and moves the weights.

    On one GPU nothing in it waits for the device unless the program does; where the program can be captured and the
    images are one tensor, the whole step is one CUDA graph.

    Args:
        elbo: the pair, whose parameters are moved.
        views: from images to views.
        training: settings.
        fabric: device and precision.
        engine: as in `Gradient`.
        check: looks at the ledger before the weights move; not called where one GPU works alone.

    Attributes:
        joint: what is common to several processes that share the batch; None where one works alone.
    """

    def __init__(
        self,
        elbo: LedgerELBO,
        views: Views,
        training: Training,
        fabric: Fabric,
        engine: Engine,
        check: Callable[[Ledger], None],
    ) -> None:
        self.views = views
        self.training = training
        self.fabric = fabric
        self.on_gpu = fabric.device.type == "cuda"
        self.parameters = [p for p in elbo.parameters() if p.requires_grad]
        self.joint = Joint(self.parameters) if fabric.world_size > 1 else None
        self.check = None if self.on_gpu and self.joint is None else check
        # On a GPU these are tensors, which a graph reads anew at each replay.
        self.learning_rate = torch.tensor(training.learning_rate, device=fabric.device)
        self.kl_weight = torch.tensor(training.kl_weight, device=fabric.device)
        self.optimizer = _AdamW(
            self.parameters,
            lr=self.learning_rate if self.on_gpu else training.learning_rate,
            eps=training.adam_eps,
            weight_decay=training.weight_decay,
            fused=fabric.device.type in ("cpu", "cuda"),
            capturable=self.on_gpu,
        )
        self.gradient = Gradient(
            elbo, training.likelihood_weight, engine, fabric.autocast, lambda loss: fabric.backward(loss)
        )
        one_graph = self.on_gpu and engine != "eager" and self.joint is None and views.replayable
        self.replay = CUDAGraph(self._from_tensors) if one_graph else None
        self.waits: str | None = None

    def __call__(self, images: Any, observed: Mapping[str, Tensor], learning_rate: float, kl_weight: float) -> Ledger:
        """The ledger before the step.

        Args:
            images: as `Views.augment` takes them.
            observed: what the pair observes besides.
            learning_rate, kl_weight: of this step.
        """
        self._set(learning_rate, kl_weight)
        uniforms = self.views.draw(len(images), self.training.num_views)
        if self.on_gpu:
            uniforms = uniforms.pin_memory()  # from where it is sent without waiting
        captured = self.gradient.captured
        if self.replay is not None and self.waits is None and captured is not None and self.gradient.engine == "auto":
            # In a capture that would end the fit, and torch does not see it before.
            self.waits = next((f"{name} may wait for the GPU" for name in captured.factorizations), None)
        if self.replay is not None and not self.eager_because and isinstance(images, Tensor):
            self.names = list(observed)
            random = None if self.replay.graph else rng.get_state()
            try:
                return self.replay([images, uniforms, *observed.values()])
            except RuntimeError as error:
                if random is None or self.replay.warm_up > 0 or isinstance(error, torch.OutOfMemoryError):
                    raise
                self._give_up(error)
                rng.set_state(random)
        return self._run(images, uniforms.to(self.fabric.device, non_blocking=True), observed)

    @property
    def eager_because(self) -> str | None:
        """Why steps are no CUDA graph, or not replayed at all; None where they are."""
        return self.waits or self.gradient.eager_because

    def _give_up(self, error: RuntimeError) -> None:
        """Goes on without a CUDA graph, or raises InputError where one was asked for."""
        reason = f"it waits for the GPU ({first_line(error)})"
        if self.gradient.engine != "auto":
            raise InputError(
                f"--hardware.engine {self.gradient.engine} cannot capture this program: {reason}; "
                "use --hardware.engine eager"
            ) from error
        self.waits = reason
        for parameter in self.parameters:
            parameter.grad = None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The optimizer's state, of a run on any device."""
        kept = {name: self.optimizer.param_groups[0][name] for name in ("lr", "fused", "capturable")}
        self.optimizer.load_state_dict({**state, "param_groups": [group | kept for group in state["param_groups"]]})
        for group in self.optimizer.param_groups:
            group["lr"] = kept["lr"]  # the same tensor, not a copy
        for parameter, moments in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):  # laid out as the parameters are here
                moments[name] = torch.empty_like(parameter).copy_(moments[name])
        if self.replay is not None:  # a graph that was captured would move the old state
            self.replay = CUDAGraph(self._from_tensors)

    def _set(self, learning_rate: float, kl_weight: float) -> None:
        if self.on_gpu:
            self.learning_rate.fill_(learning_rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
        if self.training.kl_warmup > 0:
            self.kl_weight.fill_(kl_weight)

    def _from_tensors(self, images: Tensor, uniforms: Tensor, *observed: Tensor) -> Ledger:
        return self._run(images, uniforms, dict(zip(self.names, observed, strict=True)))

    def _run(self, images: Any, uniforms: Tensor, observed: Mapping[str, Tensor]) -> Ledger:
        return self.on_views(self.views.augment(images, uniforms, self.training.num_views)[0], observed)

    def on_views(self, x: Any, observed: Mapping[str, Tensor]) -> Ledger:
        """The part of the step that follows the views, `(N, J, *event)` or modalities."""
        kl_weight = self.kl_weight if self.training.kl_warmup > 0 else self.training.kl_weight
        ledger = self.gradient(x, kl_weight, observed)
        if self.joint is not None:
            share = ledger.objective / -(len(x) * self.fabric.world_size)
            self.joint.add_up(share, alike=self.gradient.captured is not None)
        if self.check is not None:
            self.check(ledger)
        if self.training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.gradient_clip)
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return ledger


class _AdamW(torch.optim.AdamW):
    """torch's own, which need not look for a GPU's driver at every step to know whether a graph is captured."""

    def _accelerator_graph_capture_health_check(self) -> None:
        return

    _cuda_graph_capture_health_check = _accelerator_graph_capture_health_check  # its name before torch 2.9
