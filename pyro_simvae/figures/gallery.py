"""The pictures of a run: what the story reconstructs, dreams and represents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pyro_simvae.conjugate import is_flat
from pyro_simvae.data import Splits, Views
from pyro_simvae.evaluation.encoders import LatentLoc, OneModality
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.figures import overview
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.svi import first_views
from pyro_simvae.inspection.generated import decoder_is_trained, draw_prior, reconstruct


def prior_figure(draws: Mapping[str, np.ndarray], path: Path) -> None:
    """A row a group, its views beside each other. Nothing where views are not images, or of several kinds."""
    if "x" in draws and draws["x"].ndim == 5:
        title = "Views drawn from one content (a row each)" if "content" in draws else "Samples from the prior"
        overview.save(overview.image_grid(draws["x"], title), path)


def fit_figures(
    pair: LedgerELBO,
    splits: Splits,
    views: Views,
    classes: list[str] | None,
    rows: list[dict[str, float]],
    folder: Path,
) -> list[str]:
    """Draws what a fit shows at its end into `folder`.

    Returns:
        What was left out, with the reason, a line each.
    """
    left_out = []
    story = getattr(pair.model, "story", pair.model)
    if rows:
        overview.save(overview.ledger(rows), folder / "ledger.png")
    if isinstance(splits.valid.event_shape, Mapping):
        return _paired_figures(pair, splits, views, classes, folder)
    with rng.isolated(0):
        if not decoder_is_trained(pair):
            left_out.append("reconstructions and samples: a limit leaves the decoder untrained")
        elif len(splits.valid.event_shape) == 3:
            x = first_views(splits.valid, views, 10, 2).to(next(pair.parameters()).device)
            overview.save(
                overview.reconstructions(x.cpu().numpy(), reconstruct(pair, x)), folder / "reconstructions.png"
            )
            if is_flat(getattr(story, "content_scale", 1.0)):
                left_out.append("prior samples: flat content is improper, there is nothing to draw")
            else:
                draws = draw_prior(story, 64, 1)
                grid = draws["x"].reshape(8, 8, *splits.valid.event_shape)
                overview.save(overview.image_grid(grid, "Samples from the prior"), folder / "prior.png")
                if "content" in draws:
                    prior_figure(draw_prior(story, 8, 8), folder / "one_content.png")
        else:
            left_out.append("reconstructions and samples: the views are vectors, not images")
    z = represent(LatentLoc(pair.guide), splits.valid, views.plain)
    labels = None if splits.valid.labels is None else splits.valid.labels.numpy()
    overview.save(overview.latent_scatter(z, labels, classes), folder / "latents.png")
    style = getattr(story, "style_scale", None)
    if isinstance(style, Tensor) and style.numel() > 1:
        overview.save(overview.style_scales(style.detach().cpu().numpy()), folder / "style_scales.png")
    return left_out


def _paired_figures(
    pair: LedgerELBO, splits: Splits, views: Views, classes: list[str] | None, folder: Path
) -> list[str]:
    """The figures of each modality. Returns what was left out, as `fit_figures` does."""
    left_out = []
    valid: Any = splits.valid
    drawing: Any = views
    shapes = valid.event_shape
    with rng.isolated(0):
        drawn: Any = first_views(valid, views, 10, len(shapes))
    x = drawn.to(next(pair.parameters()).device)
    for name, shape in shapes.items():
        split = valid.modality(name)
        z = represent(LatentLoc(OneModality(pair.guide, name, shapes)), split, drawing.views[name].plain)
        labels = None if split.labels is None else split.labels.numpy()
        overview.save(overview.latent_scatter(z, labels, classes), folder / f"latents_{name}.png")
        if len(shape) != 3:
            left_out.append(f"reconstructions of {name}: not images")
            continue
        if not decoder_is_trained(pair):
            left_out.append(f"reconstructions of {name}: a limit leaves the decoder untrained")
            continue
        with rng.isolated(0):
            mean = reconstruct(pair, x, f"x_{name}")
        images = x.views[name].unsqueeze(1).cpu().numpy()
        overview.save(overview.reconstructions(images, mean), folder / f"reconstructions_{name}.png")
    return left_out
