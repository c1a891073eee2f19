"""The posterior of a group dimension by dimension, over the prior."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import INK, QUIET, tidy
from pyro_simvae.figures.panels import headline, panels, view_look

POINTS = 200
"""At which a density is drawn."""

TINY = 1e-12
"""A variance below which draws are one point."""


def informativeness(z: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """KL(q ‖ p) of each dimension in nats, mean over views, of the Gaussians with the draws' moments: `(D,)`.

    Args:
        z: posterior draws `(S, J, D)`.
        prior: draws `(P, D)`.
    """
    variance = np.maximum(z.var(0, dtype=np.float64), TINY)
    prior_variance = np.maximum(prior.var(0, dtype=np.float64), TINY)
    shift = z.mean(0, dtype=np.float64) - prior.mean(0, dtype=np.float64)
    ratio = variance / prior_variance
    nats: np.ndarray = ((ratio - 1 - np.log(ratio) + shift**2 / prior_variance) / 2).mean(0)
    return nats


def latent_densities(
    z: np.ndarray,
    prior: np.ndarray,
    content: np.ndarray | None = None,
    *,
    most: int = 16,
    of: str = "one group",
    prior_name: str = "prior",
) -> Figure:
    """A panel for each dimension: posterior draws of the views, of content, and the prior behind them.

    Densities are estimated by Gaussian kernels, and each is scaled to the same height, since a posterior may be a
    hundred times as narrow as the prior. Draws that are all the same, of a point, are a line. Of more dimensions than
    `most` those are shown that the views say most about, by `informativeness`.

    Args:
        z: `(S, J, D)`.
        prior: `(P, D)`; where content is flat, draws of the posteriors of many groups.
        content: of E[z | content], `(S, D)`; None where the story has no content.
        most: panels.
        of: what group it is.
        prior_name: what `prior` is.

    Raises:
        InputError: fewer than two draws, numbers of dimensions that differ, or draws that are not finite.
    """
    given = {"z": z, prior_name: prior, **({} if content is None else {"content": content})}
    for name, draws in given.items():
        if draws.ndim != (3 if name == "z" else 2) or len(draws) < 2 or draws.shape[-1] != z.shape[-1]:
            raise InputError(
                f"draws of {name} have shape {draws.shape}: give two draws or more, of {z.shape[-1]} dimensions"
            )
        if not np.isfinite(draws).all():
            raise InputError(f"draws of {name} are not all finite: the fit has diverged, lower its learning rate")
    latent_dim, nats = z.shape[-1], informativeness(z, prior)
    shown = np.sort(np.argsort(-nats, kind="stable")[:most])
    fig, drawn = panels(len(shown), 4 if len(shown) > 3 else len(shown), 2.1, 1.5)
    for axes, dim in zip(drawn, shown, strict=True):
        _panel(axes, z[..., dim], prior[:, dim], None if content is None else content[:, dim])
        tidy(axes, "")
        axes.set_title(f"dimension {dim}: {nats[dim]:.1f} nats", loc="left", fontsize=8, color=INK)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    handles, labels = drawn[0].get_legend_handles_labels()
    labels = [prior_name if label == "prior" else label for label in labels]
    fig.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8, labelcolor=QUIET)
    part = (
        "all dimensions" if len(shown) == latent_dim else f"the {len(shown)} of {latent_dim} dimensions of largest KL"
    )
    headline(fig, f"Posterior of {of}: {part}\nnats: KL(q ‖ {prior_name}) of a view; densities scaled to one height")
    return fig


def _panel(axes: Axes, z: np.ndarray, prior: np.ndarray, content: np.ndarray | None) -> None:
    """z `(S, J)`, prior `(P,)`, content `(S,)`."""
    margin = 0.1 * float(np.ptp(prior))
    grid = np.linspace(prior.min() - margin, prior.max() + margin, POINTS)
    axes.fill_between(grid, _density(prior, grid), color="#d9d9d9", linewidth=0, label="prior")
    for view, draws in enumerate(z.T):
        colour, line = view_look(view)
        _curve(axes, draws, colour, line, f"view {view + 1}")
    if content is not None:
        _curve(axes, content, INK, "solid", "content")
    axes.set_ylim(0, 1.1)


def _curve(axes: Axes, draws: np.ndarray, colour: str, line: str, label: str) -> None:
    if draws.var() < TINY:
        axes.axvline(draws[0], color=colour, linestyle=line, linewidth=1.3, label=label)
        return
    margin = 0.2 * float(np.ptp(draws))
    grid = np.linspace(draws.min() - margin, draws.max() + margin, POINTS)
    axes.plot(grid, _density(draws, grid), color=colour, linestyle=line, linewidth=1.3, label=label)


def _density(draws: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Scaled to a height of 1."""
    if draws.var() < TINY:
        return np.zeros_like(grid)
    density: np.ndarray = gaussian_kde(draws)(grid)
    return density / density.max()
