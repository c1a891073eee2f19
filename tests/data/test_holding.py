from pathlib import Path

import pytest
import torch
from PIL import Image

from pyro_simvae.data import holding
from pyro_simvae.data.cached import CachedSplit
from pyro_simvae.data.decoding import Format
from pyro_simvae.data.holding import hold
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.data.sources import Sources
from pyro_simvae.data.splits import Splits
from pyro_simvae.data.streaming import StreamedSplit

PARTS = (torch.tensor([0, 2, 5, 7]), torch.tensor([4, 1]), torch.tensor([3, 6]))


@pytest.fixture
def held(tmp_path: Path):
    """`hold` of eight images of 4 x 4, the i-th filled with 10 i, labelled i and with the factor -i."""
    paths = [str(tmp_path / f"{i}.png") for i in range(8)]
    for i, path in enumerate(paths):
        Image.new("L", (4, 4), 10 * i).save(path)

    def make(cache: str, parts=PARTS) -> Splits:
        target = Format(1, 4, 4, convert=False)
        number = torch.arange(8)
        return hold(Sources.of_files(paths), parts, target, 0, cache, number, {"minus": -number})

    return make


@pytest.mark.parametrize(
    ("budget", "cache", "kind"),
    [(128, "no", MemorySplit), (128, "cache", MemorySplit), (127, "no", StreamedSplit), (127, "cache", CachedSplit)],
)
def test_each_way_holds_the_same(held, tmp_path, monkeypatch, budget, cache, kind) -> None:
    monkeypatch.setattr(holding, "MEMORY_BUDGET", budget)
    folder = cache if cache == "no" else str(tmp_path / cache)
    for split, part in zip(held(folder), PARTS, strict=True):
        assert isinstance(split, kind)
        assert split.event_shape == (1, 4, 4)
        assert torch.equal(split.images(torch.arange(len(part)))[:, 0, 0, 0], (10 * part).byte())
        assert torch.equal(split.labels, part)
        assert torch.equal(split.factors["minus"], -part)
    assert (tmp_path / "cache").exists() == (kind is CachedSplit)


def test_splits_that_are_carved_otherwise_share_the_file(held, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(holding, "MEMORY_BUDGET", 0)
    first = held(str(tmp_path / "cache"))
    second = held(str(tmp_path / "cache"), parts=PARTS[::-1])
    assert first.train.path == second.train.path
    assert torch.equal(second.test.images(torch.arange(4)), first.train.images(torch.arange(4)))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
