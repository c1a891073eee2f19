"""What a story says of its latents alone: log p(z_1..J), and from it how well views predict each other.

Every function takes representations `(..., J, D)` in units of their own, the unit sphere's for example. `unit` turns
them into the story's latents; densities are those of the representations, its Jacobian included.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_simvae import conjugate
from pyro_simvae.distributions import LOG_2PI, Flat
from pyro_simvae.errors import InputError
from pyro_simvae.guides.conjugate import why_not_conjugate
from pyro_simvae.local_params import local_params
from pyro_simvae.sites import is_view, latent_sites


class Latents(ABC):
    """The densities of a story's latents.

    Attributes:
        unit: length of the representation's unit in the story's latent space; a number or `()`.
        floats_per_pair: numbers that `kernel` holds in memory for one pair.
        flat: whether content is flat; densities are then those of a group's J - 1 contrasts.
    """

    unit: float | Tensor = 1.0
    floats_per_pair: int = 1
    flat: bool = False

    @property
    @abstractmethod
    def temperature(self) -> Tensor:
        """v/a of the predictive Normal(a z', v) of a view given another, in the story's units, their mean; `()`.

        Without a closed form, twice the squared scale of style: the same under flat content and Gaussian style.
        """

    @property
    @abstractmethod
    def style_variance(self) -> Tensor:
        """Variance of one view's latent given its content, in the story's units, averaged over dimensions; `()`."""

    @abstractmethod
    def story_evidence(self, z: Tensor) -> Tensor:
        """log p(z_1..J) in nats for z `(..., J, D)` in the story's units: `(...)`. J = 1 gives log p(z)."""

    @abstractmethod
    def story_given_content(self, z: Tensor, content: Tensor) -> Tensor:
        """log p(z | c) in nats for z and c `(..., D)` in the story's units, which broadcast: `(...)`."""

    def evidence(self, z: Tensor) -> Tensor:
        """log p(z_1..J) in nats for representations z `(..., J, D)`: `(...)`."""
        return self.story_evidence(self.unit * z) + self.jacobian(z)

    def jacobian(self, z: Tensor) -> Tensor:
        """Log of what a density of representations z `(..., J, D)` has over one of the story's latents; `()`."""
        num_views, dim = z.shape[-2:]
        return (num_views - self.flat) * dim * (self.unit * z.new_ones(())).log()

    def leave_one_out(self, z: Tensor) -> Tensor:
        """log p(z_j | all other views of the group) for z `(N, J, D)`: `(N, J)`."""
        return self.evidence(z).unsqueeze(-1) - self.evidence(others(z))

    def predictive(self, z: Tensor, given: Tensor) -> Tensor:
        """log p(z | given), of one view given another, for representations `(..., D)` that broadcast: `(...)`."""
        pairs = torch.stack(torch.broadcast_tensors(z, given), -2)
        return self.evidence(pairs) - self.evidence(given.unsqueeze(-2))

    def pairwise(self, z: Tensor) -> Tensor:
        """The mean over j' ≠ j of log p(z_j | z_j') for z `(N, J, D)`: `(N, J)`. The same as above for J = 2."""
        return self.predictive(z.unsqueeze(2), others(z)).mean(-1)

    def kernel(self, z: Tensor, given: Tensor) -> Tensor:
        """log p(z_m | given_k), the predictive kernel, for z `(M, D)` and given `(K, D)`: `(M, K)`."""
        return self.predictive(z[:, None], given)

    def given_content(self, z: Tensor, content: Tensor) -> Tensor:
        """log p(z | c) in nats for representations z and c `(..., D)`, which broadcast: `(...)`."""
        jacobian = z.shape[-1] * (self.unit * z.new_ones(())).log()
        return self.story_given_content(self.unit * z, self.unit * content) + jacobian

    def content_kernel(self, z: Tensor, content: Tensor) -> Tensor:
        """log p(z_m | c_k) for z `(M, D)` and c `(K, D)`: `(M, K)`."""
        return self.given_content(z[:, None], content)


class GaussianLatents(Latents):
    """The closed form for Gaussian stories, where the kernel is one matrix product.

    Args:
        style_scale: s, a number, `()` or `(D,)`.
        content_scale: g, in (0, inf].
        unit: see `Latents`.
    """

    def __init__(
        self, style_scale: float | Tensor, content_scale: float | Tensor = math.inf, unit: float | Tensor = 1.0
    ) -> None:
        self.style_scale = style_scale
        self.content_scale = content_scale
        self.unit = unit
        self.flat = conjugate.is_flat(content_scale)

    @property
    def temperature(self) -> Tensor:
        shrinkage, variance = self._kernel(torch.as_tensor(self.style_scale))
        return (variance / shrinkage).mean()

    @property
    def style_variance(self) -> Tensor:
        return torch.as_tensor(self.style_scale).square().mean()

    def story_evidence(self, z: Tensor) -> Tensor:
        return conjugate.group_evidence(z, self.style_scale, self.content_scale)

    def kernel(self, z: Tensor, given: Tensor) -> Tensor:
        shrinkage, variance = self._kernel(torch.as_tensor(self.style_scale, dtype=z.dtype, device=z.device))
        return _log_normal(z, given * shrinkage, variance.sqrt() / self.unit)

    def story_given_content(self, z: Tensor, content: Tensor) -> Tensor:
        scale = torch.as_tensor(self.style_scale, dtype=z.dtype, device=z.device)
        return dist.Normal(content, scale, validate_args=False).log_prob(z).sum(-1)

    def content_kernel(self, z: Tensor, content: Tensor) -> Tensor:
        scale = torch.as_tensor(self.style_scale, dtype=z.dtype, device=z.device)
        return _log_normal(z, content, scale / self.unit)

    def _kernel(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """a and v of p(z' | z) = Normal(a z, v)."""
        shrinkage = 1 / (1 + (style / self.content_scale) ** 2)
        return shrinkage, style**2 * (1 + shrinkage)


class TracedLatents(Latents):
    """Any story whose dimensions are independent: the program is traced at given content, and content integrated out.

        log p(z_1..J) = Σ_d log ∫ p(c_d) Π_j p(z_jd | c_d) dc_d

    The integral is a midpoint sum after c = m + σ tan(π (u - ½)), with m and σ the group's own: spectrally
    accurate for smooth densities, heavy tails included.

    Args:
        model: a story that `is_gaussian` accepts.
        num_nodes: points of the sum.
        unit: see `Latents`.
    """

    def __init__(self, model: nn.Module, num_nodes: int = 64, unit: float | Tensor = 1.0) -> None:
        self.model = model
        self.unit = unit
        sites = latent_sites(model)
        latent = sites["z"]["fn"]
        self.flat = isinstance(sites["content"]["fn"], Flat)
        self._scale = _scale(latent).flatten(0, -2).amax(0).detach()
        self._angles = torch.pi * ((torch.arange(num_nodes, dtype=torch.float64) + 0.5) / num_nodes - 0.5)
        self.floats_per_pair = 4 * num_nodes * latent.event_shape[0]

    @property
    def temperature(self) -> Tensor:
        return 2 * self.style_variance

    @property
    def style_variance(self) -> Tensor:
        return self._scale.square().mean()

    def story_evidence(self, z: Tensor) -> Tensor:
        batch_shape, (num_views, dim) = z.shape[:-2], z.shape[-2:]
        z = z.reshape(-1, num_views, dim)
        angles = self._angles.to(z)[:, None, None, None]
        with torch.no_grad():  # where the nodes lie does not change the integral
            center = z.mean(-2, keepdim=True)
            width = self._scale.to(z) + (z - center).abs().amax(-2, keepdim=True)
            nodes = center + width * angles.tan()  # (K, G, 1, D)
            log_weights = (width * torch.pi / len(angles)).log() - 2 * angles.cos().log()
        log_content, log_latent = self._densities(nodes, z)
        return torch.logsumexp(log_weights + log_content + log_latent, 0).sum((-2, -1)).reshape(batch_shape)

    def story_given_content(self, z: Tensor, content: Tensor) -> Tensor:
        z, content = torch.broadcast_tensors(z, content)
        shape, dim = z.shape[:-1], z.shape[-1]
        _, log_latent = self._densities(content.reshape(1, -1, 1, dim), z.reshape(-1, 1, dim))
        return log_latent.sum((0, 2, 3)).reshape(shape)

    def _densities(self, content: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """log p(c) and Σ_j log p(z_j | c) for each dimension: content `(K, G, 1, D)`, z `(G, J, D)`."""
        num_nodes, num_groups = content.shape[:2]
        num_views, dim = z.shape[-2:]
        # A story may refuse single views, whose prior is improper: give it two, and read one.
        z = z if num_views > 1 else z.expand(-1, 2, -1)
        at = {
            "content": content.reshape(-1, 1, dim),
            "z": z.expand(num_nodes, *z.shape).reshape(-1, *z.shape[1:]),
        }
        sites = _trace(self.model, at)
        log_content = _log_prob(sites["content"], at["content"]).expand(len(at["content"]), 1, dim)
        log_latent = _log_prob(sites["z"], at["z"])[:, :num_views].sum(1, keepdim=True)
        shape = (num_nodes, num_groups, 1, dim)
        return log_content.reshape(shape), log_latent.reshape(shape)


def is_gaussian(model: nn.Module) -> bool:
    """Whether the story's latents have the closed form of `GaussianLatents`; otherwise they can be traced.

    Raises:
        InputError: a story without content, or with latents besides content and z; content of fewer dimensions than
            z; latent dimensions that depend on each other.
    """
    sites, name = latent_sites(model), type(model).__name__
    if "content" not in sites:
        raise InputError(
            f"the story {name} has no site 'content', so its views do not predict each other "
            "and no limit can draw them together: use a story with shared content, such as --model simvae"
        )
    if besides := sorted(set(sites) - {"content", "z"}):
        raise InputError(
            f"the story {name} has the latent site {besides[0]!r}, which a limit cannot integrate out: "
            "use a story whose latents are content and z"
        )
    if sites["content"]["fn"].event_shape != sites["z"]["fn"].event_shape:
        raise InputError(
            f"the views of the story {name} share a part of their latents only, and a limit compares all of them: "
            "use a story whose content is as large as z"
        )
    if why_not_conjugate(model) is None:
        return True
    _check_dimensions(name, sites)
    return False


def others(z: Tensor) -> Tensor:
    """All views but each in turn: `(N, J, D)` to `(N, J, J - 1, D)`."""
    num_views = z.shape[1]
    index = torch.arange(num_views - 1, device=z.device).expand(num_views, -1)
    return z[:, index + (index >= torch.arange(num_views, device=z.device)[:, None])]


class _Substitute(Messenger):
    """Sets the latent sites to given values and keeps what the program drew them from; the view stays undrawn."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.fns: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            self.fns[msg["name"]] = msg["fn"]
            msg["value"], msg["done"] = self.values[msg["name"]], True
        elif is_view(msg["name"]):
            msg["value"], msg["done"], msg["is_observed"] = torch.zeros(()), True, True


def _trace(model: nn.Module, values: dict[str, Tensor]) -> dict[str, Any]:
    substitute = _Substitute(values)
    with local_params(model), poutine.block(), substitute:
        model(num_groups=values["z"].shape[0], num_views=values["z"].shape[1])
    return substitute.fns


def _log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log N(z_m; loc_k, scale²) for z `(M, D)`, loc `(K, D)` and scale `()` or `(D,)`: `(M, K)`."""
    scale = scale.expand(z.shape[-1])
    z, loc = z / scale, loc / scale
    # -|z - l|²/2 as one product of [z, 1, -|z|²/2] and [l, -|l|²/2, 1]: no further pass over the matrix.
    row, column = (-v.square().sum(-1, keepdim=True) / 2 for v in (z, loc))
    column = column - scale.log().sum() - z.shape[-1] * LOG_2PI / 2
    return torch.cat([z, torch.ones_like(row), row], -1) @ torch.cat([loc, column, torch.ones_like(column)], -1).mT


def _log_prob(fn: Any, value: Tensor) -> Tensor:
    """The log-density of each dimension: `(..., D)`."""
    if isinstance(fn, Flat):
        return torch.zeros_like(value)
    return fn.base_dist.log_prob(value)


def _scale(fn: Any) -> Tensor:
    """A length on which the density varies, for each dimension: `(..., D)`."""
    base = fn.base_dist
    return (base.scale if hasattr(base, "scale") else base.stddev).expand(fn.batch_shape + fn.event_shape)


def _check_dimensions(name: str, sites: dict[str, Any]) -> None:
    for site in ("content", "z"):
        fn = sites[site]["fn"]
        independent = isinstance(fn, torch.distributions.Independent) and fn.reinterpreted_batch_ndims == 1
        if not (isinstance(fn, Flat) or (independent and not fn.base_dist.event_shape)):
            raise InputError(
                f"the story {name} draws {site!r} from {type(fn).__name__}, whose dimensions may depend on each other: "
                "limits need a Gaussian story, or univariate distributions with .to_event(1)"
            )
