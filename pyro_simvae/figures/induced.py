"""What a loss says of one latent: the log-density that it induces in two dimensions.

With all else of a batch fixed, a loss is a density of one view's latent as the program is, up to its normalizer:

    log p(z_11) = -NJ loss(z_11) + constant

Beside it stands what the program itself says, log p(z_1 | z_2). Losses that stop gradients are shown by their value:
what they hold fixed moves here.
"""

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_simvae import components
from pyro_simvae.checks import positive
from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import INK, ORANGE, QUIET, blank
from pyro_simvae.limits import LIMITS, Given, Limit
from pyro_simvae.limits.latents import GaussianLatents

REACH = 2.4
"""Half the side of a panel, about the origin."""
CELLS, ANGLES, PIXELS = 61, 720, 401
"""Points where a density is evaluated, along a side or around the circle, and points a side once interpolated."""
LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Nats below the highest density, where a colour begins."""
SHADES = ("#08306b", "#135ea7", "#3686c0", "#6aaed6", "#a3cce3", "#cfe1f2", "#e6eff9", "#ffffff")
STEPS = 100
"""In which a limit's own state is fitted."""
COLUMNS = 5
OTHERS: dict[str, Any] = dict(marker="o", markersize=3.2, color="white", markeredgecolor=INK, markeredgewidth=0.6)
OTHER_VIEW: dict[str, Any] = dict(marker="o", markersize=8, color=ORANGE, markeredgecolor="white", markeredgewidth=1.2)
CIRCLE: dict[str, Any] = dict(color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
STYLE_SCALE = 0.4
"""That of the story by default; temperatures follow it."""


@dataclass(frozen=True)
class Batch:
    """Latents in two dimensions, the same in every panel: four classes of eight groups of two views.

    Attributes:
        z: `(32, 2, 2)` in float64, with mean 0 and variance 1 nearly; z_12 lies between two classes.
        labels: `(32,)`.
        index: `(32,)`.
    """

    z: Tensor
    labels: Tensor
    index: Tensor


@dataclass(frozen=True)
class Panel:
    """The density of z_11 in the square of half-side `REACH`.

    Attributes:
        title: the name.
        note: what it is a density of.
        below: nats below the highest density there, `(PIXELS, PIXELS)`; rows are the second dimension.
        along_rays: whether only the direction of z_11 matters.
    """

    title: str
    note: str
    below: np.ndarray
    along_rays: bool = False


def batch(style_scale: float = STYLE_SCALE) -> Batch:
    """The batch: content around four centres, and views at `style_scale` from it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(8)
    angle = torch.pi * (labels.double() / 2 + 0.15)
    content = 1.3 * torch.stack([angle.cos(), angle.sin()], -1)
    content += 0.2 * torch.randn(32, 2, generator=generator, dtype=torch.float64)
    z = content.unsqueeze(1) + style_scale * torch.randn(32, 2, 2, generator=generator, dtype=torch.float64)
    z[0] = torch.tensor([[0.6, 1.0], [0.45, 1.1]])
    return Batch(z, labels, torch.arange(32))


def story_panel(data: Batch, style_scale: float = STYLE_SCALE) -> Panel:
    """log p(z_1 | z_2) of the SimVAE story with flat content."""
    kernel = GaussianLatents(style_scale).kernel(_square(PIXELS), data.z[0, 1:])
    return Panel(
        "The program", f"log p(z₁ | z₂), s = {style_scale:g}, flat content", _below(kernel.reshape(PIXELS, -1))
    )


def limit_panel(name: str, data: Batch, style_scale: float = STYLE_SCALE) -> Panel:
    """The density that a limit's loss induces; see `prepare`."""
    limit = prepare(name, data, style_scale)
    probes = torch.tensor([[0.3, 0.7], [-0.8, 0.5], [0.6, -1.1]], dtype=data.z.dtype)
    near, far = (log_density(limit, data, radius * probes) for radius in (0.7, 1.9))
    along_rays = torch.allclose(near, far, rtol=1e-9)
    square = _square(PIXELS)
    if along_rays:
        angle = torch.linspace(-torch.pi, torch.pi, ANGLES + 1, dtype=data.z.dtype)
        found = log_density(limit, data, torch.stack([angle.cos(), angle.sin()], -1))
        at = torch.atan2(square[:, 1], square[:, 0])
        values = torch.from_numpy(np.interp(at.numpy(), angle.numpy(), found.numpy())).reshape(PIXELS, PIXELS)
    else:
        found = log_density(limit, data, _square(CELLS)).reshape(1, 1, CELLS, CELLS)
        values = F.interpolate(found, size=(PIXELS, PIXELS), mode="bicubic", align_corners=True)[0, 0]
    temperature, claim = limit.temperature_of(2), LIMITS[name].claim
    note = claim.geometry + ("" if temperature is None else f", s = {(float(temperature) / 2) ** 0.5:.2g}")
    return Panel(LIMITS[name].__name__, note, _below(values), along_rays)


def prepare(name: str, data: Batch, style_scale: float = STYLE_SCALE) -> Limit:
    """A limit at its defaults, but for its `temperature`, which is made to fit the story's style scale.

    What it learns or remembers (a predictor, prototypes, class locations, a queue) is fitted to the batch with its
    latents held, from a fixed seed.

    Raises:
        InputError: an unknown name, with the nearest; a style scale that is not positive.
    """
    variance = 2 * positive("style_scale", style_scale, finite=True) ** 2
    sizes = {"num_items": len(data.z), "num_classes": int(data.labels.max()) + 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        limit: Limit = components.build("limit", name, **sizes)
        if "temperature" in inspect.signature(type(limit)).parameters:
            # It may be the variance of a view given another, or given its content, which is half of that.
            unit: Limit = components.build("limit", _spec(name, 1.0), **sizes)
            factor = unit.temperature_of(2)
            assert factor is not None
            limit = components.build("limit", _spec(name, variance / torch.as_tensor(factor).item()), **sizes)
        limit.build(2)
        _fit(limit.to(data.z), data)
    return limit.requires_grad_(False)


def _spec(name: str, temperature: float) -> components.Spec:
    return {"class_path": name, "init_args": {"temperature": temperature}}


def _fit(limit: Limit, data: Batch) -> None:
    target = None if limit.momentum is None else limit.geometry(data.z)
    given = Given(target, data.labels, data.index)
    parameters = list(limit.parameters())
    temperature = limit.temperature_of(2)
    if isinstance(temperature, Tensor) and temperature.requires_grad:  # learned elsewhere, here it is the story's
        gradients: Sequence[Tensor | None] = torch.autograd.grad(temperature, parameters, allow_unused=True)
        parameters = [weight for weight, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    optimizer = torch.optim.Adam(parameters, lr=0.01) if parameters else None
    for _ in range(STEPS):
        limit.follow(nn.Identity())  # there is no teacher's network, but prototypes may follow as well
        if optimizer is not None:
            optimizer.zero_grad()
            _loss(limit, data, data.z).backward()
            optimizer.step()
        limit.update(limit.geometry(data.z), given)


@torch.no_grad()
def log_density(limit: Limit, data: Batch, points: Tensor) -> Tensor:
    """-NJ loss with z_11 at each of `points` `(P, 2)`, all else as in the batch: `(P,)`, in nats, not normalized.

    A teacher's representations are those of the batch.
    """
    z = data.z.clone()
    values = []
    for point in points:
        z[0, 0] = point
        values.append(_loss(limit, data, z))
    return -z[..., 0].numel() * torch.stack(values)


def _loss(limit: Limit, data: Batch, z: Tensor) -> Tensor:
    target = None if limit.momentum is None else data.z
    return limit.loss(z, target=target, labels=data.labels, index=data.index).total


def induced(panels: Sequence[Panel], data: Batch) -> Figure:
    """The densities side by side, on one scale of colours.

    Args:
        panels: at least one.
        data: the batch that they are for.

    Raises:
        InputError: There are no panels.
    """
    if not panels:
        raise InputError("there are no densities to draw: give at least one")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    fig = blank(2.7 * columns + 0.4, 3.2 * rows + 1.7)
    fig.set_layout_engine("constrained", w_pad=0.1, h_pad=0.14)
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours, norm = ListedColormap(SHADES), BoundaryNorm([*LEVELS, 2 * LEVELS[-1]], len(SHADES))
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel, data, colours, norm)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        axis.tick_params(labelbottom=True)  # also above an empty place
    title = "Log-density of one view's latent that each loss induces, all else of the batch fixed"
    title = "\n".join(textwrap.wrap(title, 26 * columns))
    fig.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    mappable = ScalarMappable(norm, colours)
    bar = fig.colorbar(mappable, ax=axes, location="bottom", ticks=LEVELS, fraction=0.03, aspect=30 * columns)
    bar.set_label("nats below the highest density", fontsize=9, color=QUIET)
    bar.ax.set_xticklabels([f"{level:g}" for level in LEVELS])
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=3, width=0.6)
    outline: Any = bar.outline  # not typed alike in all versions
    outline.set(edgecolor=QUIET, linewidth=0.6)
    keys = [
        Line2D([], [], linewidth=0, **OTHER_VIEW, label="the group's other view, z₁₂"),
        Line2D([], [], linewidth=0, **OTHERS, label="the other groups' latents"),
        Line2D([], [], **CIRCLE, label="unit circle; the density is constant along rays"),
    ][: 2 + any(panel.along_rays for panel in panels)]
    fig.legend(
        handles=keys,
        loc="outside lower left",
        ncols=len(keys) if columns > 2 else 1,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.4,
    )
    return fig


def _draw(axes: Axes, panel: Panel, data: Batch, colours: ListedColormap, norm: BoundaryNorm) -> None:
    side = np.linspace(-REACH, REACH, PIXELS)
    levels = [*LEVELS, 2 * LEVELS[-1]]
    axes.contourf(side, side, panel.below, levels=levels, cmap=colours, norm=norm)
    if not panel.along_rays:  # whose many narrow wedges lines would hide
        axes.contour(side, side, panel.below, levels=LEVELS[1:], colors=INK, linewidths=0.35, alpha=0.5)
    others = data.z[1:].flatten(0, 1).numpy()
    axes.plot(*others.T, linewidth=0, **OTHERS)
    axes.plot(*data.z[0, 1].numpy(), linewidth=0, **OTHER_VIEW)
    if panel.along_rays:
        angle = np.linspace(0, 2 * np.pi, 200)
        axes.plot(np.cos(angle), np.sin(angle), **CIRCLE)
    axes.set(aspect="equal", xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    axes.tick_params(labelsize=8, colors=QUIET, length=3, width=0.6)
    axes.spines[:].set(color=QUIET, linewidth=0.6)
    note = "\n".join(textwrap.wrap(panel.note, 44))
    axes.set_title(
        panel.title, loc="left", fontsize=10, color=INK, fontweight="bold", pad=6 + 10 * (1 + note.count("\n"))
    )
    axes.annotate(note, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=QUIET)


def _square(size: int) -> Tensor:
    """Points of the square, row by row, `(size², 2)`: the first dimension runs along a row."""
    side = torch.linspace(-REACH, REACH, size, dtype=torch.float64)
    second, first = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([first, second], -1).reshape(-1, 2)


def _below(values: Tensor) -> np.ndarray:
    """Nats below the highest, at most twice the last of `LEVELS`."""
    found: np.ndarray = (values.max() - values).clamp(max=2 * LEVELS[-1]).numpy()
    return found
