"""What a limit is: four choices (posterior, geometry, content, entropy), applied to a (model, guide) pair."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.inference.gather import world_size
from pyro_simvae.limits.geometry import euclidean
from pyro_simvae.limits.given import Given
from pyro_simvae.limits.latents import GaussianLatents, Latents
from pyro_simvae.limits.pair import LimitGuide, LimitModel
from pyro_simvae.limits.precision import in_full
from pyro_simvae.limits.teacher import Teacher
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import latent_sites

Content = Literal["joint", "leave-one-out", "pairwise"]
CONTENTS: tuple[Content, ...] = ("joint", "leave-one-out", "pairwise")


@dataclass(frozen=True)
class Claim:
    """What a limit is in relation to the program, and how that is known.

    Attributes:
        kind: how close the loss of the literature is to the limit.
        statement: the claim as a formula, its constant included.
        geometry, content, entropy: the choices that make the limit.
        parameters: how the hyperparameters of the literature map to the story's.
        source: paper and equation.
        reference: what value and gradient are tested against.
        tested_to: relative tolerance of that test, in float64.
    """

    kind: Literal["exact", "exact up to a constant", "surrogate", "alternating step"]
    statement: str
    geometry: str
    content: str
    entropy: str
    parameters: str
    source: str
    reference: str
    tested_to: float = 1e-7


class Terms(dict[str, Tensor]):
    """The named terms of a loss, each `()`, in the normalization of the literature."""

    @property
    def total(self) -> Tensor:
        """Their sum, the loss; `()`."""
        return torch.stack(list(self.values())).sum()


class Limit(nn.Module, ABC):
    """A discriminative loss as a limit of a generative story: the guide a point, the likelihood an entropy.

        objective = Σ_ij [ agreement(z_ij) + Ĥ(z_ij) ],     z = geometry(f(x))

    The agreement is how well the views of a group predict each other under the story. Called with a
    (model, guide) pair it returns the limit's pair, for `pyro.infer.SVI` and for `fit`; the original pair stays as
    it is, and shares its parameters. `loss` is the limit of the default story, Gaussian with flat content.

    Args:
        content: "joint" scores log p(z_1..J), "leave-one-out" each view given all others, "pairwise" each view
            given each other one, averaged. The last two agree for J = 2.
        t: from the full program, 0, to its limit, 1; in [0, 1].

    Raises:
        InputError: `t` outside [0, 1], or an unknown `content`.
    """

    claim: ClassVar[Claim]
    geometry: Callable[[Tensor], Tensor] = staticmethod(euclidean)
    across_batch: ClassVar[bool] = True
    """Whether the loss of a group depends on the other groups of the batch."""
    knows_content: ClassVar[bool] = False
    """Whether content is set to an estimate, so that views vary by their style alone, whatever the content's prior."""
    observes: ClassVar[tuple[str, ...]] = ()
    """What of "labels" and "index" the limit needs beside the views."""
    momentum: float | None = None
    """Decay of the EMA teacher's weights at each step, in [0, 1]; None for limits without a teacher."""
    least_views: ClassVar[int] = 2
    """Smallest J for which the limit is defined."""

    def __init__(self, content: Content = "leave-one-out", t: float = 1.0) -> None:
        super().__init__()
        if not 0 <= t <= 1:
            raise InputError(f"t is {t}: give a number from 0, the full program, to 1, its limit")
        if content not in CONTENTS:
            raise unknown_name("treatment of content", content, CONTENTS)
        self.content = content
        self.t = float(t)
        # Made where the limit meets its guide. Not a class attribute, which would hide the module of that name.
        self.teacher: Teacher | None = None

    @property
    def stationary(self) -> bool:
        """Whether the objective is the same function of the weights throughout a fit, so that it can tell epochs apart.

        It is not where it asks a teacher, or codes that are made anew: SimSiam's is best when it has collapsed.
        """
        claim = getattr(self, "claim", None)  # which a limit of one's own need not make
        return self.momentum is None and (claim is None or claim.kind != "alternating step")

    @property
    def share_of_joint(self) -> float:
        """Weight of the program's own latent densities, which are those of joint content."""
        return 1.0 if self.content == "joint" else 1.0 - self.t

    # -- what each limit says -----------------------------------------------------------------------------------

    @abstractmethod
    def entropy(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        """The terms of Ĥ[z] in nats, for z `(N, J, D)`: each `(N, J)` or broadcast to it. None: an empty dict."""

    def agreement(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        """How well the views predict each other, in nats, for z `(N, J, D)`: one term, `(N, J)`."""
        if self.content == "joint":
            return {"agreement": latents.evidence(z).unsqueeze(-1).expand(z.shape[:2]) / z.shape[1]}
        return {"agreement": latents.pairwise(z) if self.content == "pairwise" else latents.leave_one_out(z)}

    def temperature_of(self, dim: int) -> float | Tensor | None:
        """v/a of the predictive Normal(a z', v) of a view given another, in its own units; None: the story's."""
        return None

    def unit(self, latents: Latents, dim: int) -> float | Tensor:
        """Length of the representation's unit in the latent space of a story with these latents."""
        temperature = self.temperature_of(dim)
        if temperature is None:
            return 1.0
        variance = 2 * latents.style_variance if self.knows_content else latents.temperature
        return (variance / temperature).sqrt()

    def constants(self, num_groups: int, num_views: int, dim: int) -> Mapping[str, float | Tensor]:
        """What the literature's form of each term adds to ours, for N groups in all processes."""
        return {}

    def build(self, dim: int) -> None:
        """Makes the state that depends on D = `dim` (predictor, prototypes, queue), if it is not there yet."""

    def update(self, z: Tensor, given: Given) -> None:
        """Moves the state (queue, centre, memory) after a training step's terms; z `(N, J, D)`, without gradient."""

    def follow(self, guide: nn.Module) -> None:
        """Moves what follows by momentum, the teacher towards the guide, before each training step."""
        if self.teacher is not None and self.momentum is not None:
            self.teacher.follow(guide, self.momentum)

    # -- the loss -----------------------------------------------------------------------------------------------

    def loss(
        self,
        z: Tensor,
        *,
        target: Tensor | None = None,
        labels: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """The loss on representations, under the Gaussian story with flat content, as the literature normalizes it.

        Args:
            z: `(N, J, D)`, before the geometry's map; float32 or float64.
            target: the teacher's, `(N, J, D)`, also before the geometry's map, without gradient; for limits with one.
            labels: `(N,)`; index: `(N,)`; for limits that observe them.

        Raises:
            InputError: z is not `(N, J, D)` with N >= 2 and J >= 2, or something that the limit observes is missing;
                a target of another shape.
        """
        if z.dim() != 3:
            raise InputError(f"representations have shape {tuple(z.shape)}: give (N, J, D), groups, views, dimensions")
        if target is not None:
            if target.shape != z.shape:
                raise InputError(f"target has shape {tuple(target.shape)}: give the representations' {tuple(z.shape)}")
            with in_full(target):
                target = self.geometry(target.detach())
        with in_full(z):
            return self._loss(z, Given(target, labels, index))

    def _loss(self, z: Tensor, given: Given) -> Terms:
        self.check(z, given)
        self.build(z.shape[-1])
        self.to(z)
        z = self.geometry(z)
        temperature = self.temperature_of(z.shape[-1])
        variance = torch.as_tensor(1.0 if temperature is None else temperature, dtype=z.dtype, device=z.device)
        terms = self.terms(z, GaussianLatents((variance / 2).sqrt()), given)
        return self.normalized(terms, z)

    def normalized(self, terms: dict[str, Tensor], z: Tensor) -> Terms:
        """The objective's terms for z `(N, J, D)` as the literature writes them: negative means plus constants."""
        num_groups = len(z) * world_size()
        constants = self.constants(num_groups, *z.shape[1:])
        return Terms({name: constants.get(name, 0.0) - value.mean() for name, value in terms.items()})

    def terms(self, z: Tensor, latents: Latents, given: Given) -> dict[str, Tensor]:
        """Agreement and entropy by name, each `(N, J)` or broadcast to it, in nats; z after the geometry's map."""
        return self.agreement(z, latents, given) | self.entropy(z, latents, given)

    def check(self, z: Tensor | Modalities, given: Given) -> None:
        """Raises InputError for a batch, `(N, J, ...)` or modalities, on which the limit is not defined."""
        num_groups, num_views = z.shape[:2]
        name = type(self).__name__
        if num_views < self.least_views:
            raise InputError(
                f"{name} compares the views of a group, and these are groups of {num_views}: "
                f"give J >= {self.least_views} (--training.num_views)"
            )
        if self.across_batch and len(z) * world_size() < 2:
            raise InputError(f"{name} compares groups, and this is a batch of one: give N >= 2 (--training.num_groups)")
        if self.momentum is not None and given.target is None:
            raise InputError(f"{name} needs its teacher's representations: pass target=, of the same views")
        for need in self.observes:
            value = getattr(given, need)
            if value is None:
                raise InputError(f"{name} needs {need} beside the views: use data that has them, or pass {need}=")
            if value.shape != (num_groups,):
                raise InputError(f"{need} have shape {tuple(value.shape)}: give one for each of {num_groups} groups")

    # -- the pair -----------------------------------------------------------------------------------------------

    def __call__(self, model: nn.Module, guide: nn.Module) -> tuple[LimitModel, LimitGuide]:
        """The limit's pair. The limit that it runs is a copy, with the state that this one does not have yet.

        Raises:
            InputError: a story that cannot support the limit, or a guide that runs the story.
        """
        if getattr(guide, "runs_model", False):
            raise InputError(
                f"the guide {type(guide).__name__} runs the decoder, which a limit leaves untrained: "
                "use --guide mean_field"
            )
        limit = copy.deepcopy(self)
        limit.build(latent_sites(model)["z"]["fn"].event_shape[0])
        limit.to(next(model.parameters(), torch.zeros(())))
        if limit.momentum is not None:
            limit.teacher = Teacher(guide, model)
        limit_model = LimitModel(model, limit)
        return limit_model, LimitGuide(guide, limit_model)
