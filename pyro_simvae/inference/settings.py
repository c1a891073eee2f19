"""The settings of a fit: how the objective is optimized, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeVar, cast, get_args, get_origin, get_type_hints

from pyro_simvae.checks import positive
from pyro_simvae.errors import InputError, unknown_name

Engine = Literal["auto", "eager", "graph", "compile"]
Settings = TypeVar("Settings")


def settings(kind: type[Settings], given: Any) -> Settings:
    """Settings of a kind, given as such or as a dictionary. Raises InputError for a name that it does not have."""
    if not isinstance(given, Mapping):
        return cast(Settings, given)
    known = [field.name for field in fields(cast(Any, kind))]
    for name in given:
        if name not in known:
            raise unknown_name(f"setting of {kind.__name__}", name, known)
    return kind(**given)


@dataclass(frozen=True)
class Training:
    """How the ELBO is optimized.

    Args:
        epochs: passes over the training groups; 0 leaves the initial weights.
        num_groups: N, groups a step, over all processes.
        num_views: J, views a group.
        num_particles: K, draws of the latents; above 1 the objective is the importance-weighted bound (IWAE).
        learning_rate: Adam's step size.
        adam_eps: Adam's ε. Losses are in nats a group, so their gradients are large beside 1e-8.
        weight_decay: decoupled from the gradient, as in AdamW.
        schedule: "constant", or "cosine" from the learning rate to zero over what follows the warm-up.
        learning_rate_warmup: epochs over which the learning rate rises linearly from zero.
        gradient_clip: largest norm of the gradient, nats a group; none by default.
        likelihood_weight: multiplies log p(x|z) in the objective. The true ELBO is logged beside it.
        kl_weight: multiplies the latent terms Σ (log p - log q) in the objective: the β of a β-VAE.
        kl_warmup: epochs over which kl_weight rises linearly from zero. Without it dimensions collapse where
            the decoder is nearly noiseless.
        patience: stop when the validation objective has not improved for so many epochs; never by default.
        checkpoint_steps: write a checkpoint every so many steps of an epoch, besides the one after it.
    """

    epochs: int = 20
    num_groups: int = 64
    num_views: int = 2
    num_particles: int = 1
    learning_rate: float = 1e-3
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    learning_rate_warmup: float = 0.0
    gradient_clip: float | None = None
    likelihood_weight: float = 1.0
    kl_weight: float = 1.0
    kl_warmup: float = 0.0
    patience: int | None = None
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adam_eps", "likelihood_weight", "kl_weight"):
            positive(f"training.{name}", getattr(self, name), finite=True)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in (
                "num_groups",
                "num_views",
                "num_particles",
                "patience",
                "checkpoint_steps",
                "gradient_clip",
            ):
                if value is not None and not value > 0:
                    least = "a positive number" if field.name == "gradient_clip" else "1 or more"
                    raise InputError(f"training.{field.name} is {value}: give {least}")
            elif field.name in ("epochs", "weight_decay", "learning_rate_warmup", "kl_warmup") and not value >= 0:
                raise InputError(f"training.{field.name} is {value}: give 0 or more")


@dataclass(frozen=True)
class Hardware:
    """Where a fit runs.

    Args:
        accelerator: "auto" takes a GPU where there is one.
        precision: "32", "tf32" (TensorFloat-32 matrix products on a GPU; elsewhere as "32") or "bf16-mixed".
        engine: "eager" runs the program at each step. "graph" captures its tensor operations once and replays them,
            on one GPU as a CUDA graph; "compile" also has torch's compiler fuse them. "auto" is "graph" where the
            program can be captured.
        devices: of each machine, one process each; "auto" takes all its GPUs. `fit --devices` for short.
        num_nodes: machines; above 1 started by torchrun or srun. `fit --num_nodes` for short.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32", "tf32", "bf16-mixed"] = "32"
    engine: Engine = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices = [str(choice) for choice in get_args(kind)]
            if get_origin(kind) is Literal and getattr(self, name) not in choices:
                raise unknown_name(f"hardware.{name}", str(getattr(self, name)), choices)
        for name in ("devices", "num_nodes"):
            value = getattr(self, name)
            if value != "auto" and value < 1:
                raise InputError(f"hardware.{name} is {value}: give 1 or more")

    @property
    def one_device(self) -> Self:
        """The same, but for one device of one machine."""
        return replace(self, devices=1, num_nodes=1)
