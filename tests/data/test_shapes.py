import math

import pytest
import torch
from torch import Tensor

from pyro_simvae.data.shapes import SHAPES, draw


def sprite(**given: float) -> dict[str, Tensor]:
    """Factors of one sprite: a large red bar in the middle of black, unless given."""
    defaults = {"hue": 0.0, "x": 0.0, "y": 0.0, "scale": 0.7, "rotation": 0.0, "background": 0.0}
    factors = {name: torch.tensor([given.get(name, value)]) for name, value in defaults.items()}
    return factors | {"shape": torch.tensor([int(given.get("shape", list(SHAPES).index("bar")))])}


def centre(image: Tensor) -> tuple[float, float]:
    """The centroid of the red channel, rightwards and downwards in half-sides."""
    weight = image[0].double()
    grid = (torch.arange(image.shape[-1]) + 0.5) * 2 / image.shape[-1] - 1
    return float((weight.sum(0) * grid).sum() / weight.sum()), float((weight.sum(1) * grid).sum() / weight.sum())


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_solid_and_fits_the_unit_disc(name: str) -> None:
    grid = torch.linspace(-1.5, 1.5, 301)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    distance = SHAPES[name](x, y)
    assert (distance[torch.hypot(x, y) > 1.01] > 0).all()
    assert 0.1 < float((distance < 0).float().sum()) * 0.01**2 / math.pi < 0.8


@pytest.mark.parametrize("scale", [0.45, 0.7])
def test_shapes_differ_under_any_rotation(scale: float) -> None:
    """However a shape is turned, it stays further from any other than a third of that one's norm."""
    angles = torch.linspace(0, 2 * math.pi, 37)[:-1]
    masks = torch.stack(
        [
            torch.cat([draw(sprite(shape=i, rotation=float(a), scale=scale), 32)[:, 0] for a in angles])
            for i in range(len(SHAPES))
        ]
    ).float()
    upright = masks[:, 0].flatten(1)
    for i in range(len(SHAPES)):
        distances = torch.cdist(upright[i : i + 1], masks.flatten(2).flatten(0, 1)).view(len(SHAPES), -1)
        nearest = distances.amin(1) / upright[i].norm()
        assert nearest[torch.arange(len(SHAPES)) != i].min() > 0.35, list(SHAPES)[i]


def test_position_rotation_and_scale_act_as_named() -> None:
    x, y = centre(draw(sprite(x=0.25, y=-0.125), 32)[0])
    assert x == pytest.approx(0.25, abs=0.01)
    assert y == pytest.approx(-0.125, abs=0.01)
    lying, standing = draw(sprite(), 32)[0], draw(sprite(rotation=math.pi / 2), 32)[0]
    assert (lying.int() - standing.mT.int()).abs().max() <= 1
    # Clockwise: an eighth of a turn takes the bar's right end down.
    tilted = draw(sprite(rotation=math.pi / 4), 32)[0, 0]
    assert tilted[20, 20] == 255
    assert tilted[11, 20] == 0
    areas = [draw(sprite(scale=scale), 64)[0, 0].double().sum() for scale in (0.35, 0.7)]
    assert float(areas[1] / areas[0]) == pytest.approx(4, rel=0.02)


def test_colours() -> None:
    colours = torch.stack([draw(sprite(hue=hue), 32)[0, :, 16, 16] for hue in (0, 1 / 3, 2 / 3)])
    assert torch.equal(colours.argmax(1), torch.arange(3))
    assert draw(sprite(background=0.4), 32)[0, :, 0, 0].tolist() == [102, 102, 102]
