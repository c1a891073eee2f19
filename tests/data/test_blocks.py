"""Blocks: distributions in closed form, what the views of a group share, and a mixing that can be undone."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.data.blocks import KEPT, POOL, SLOPE, Blocks, BlocksSplit, Latents, Mixing, draw_latents, draw_mixing
from pyro_simvae.errors import InputError

CONTENT = [f"content_{d}" for d in range(1, 6)]
STYLE = [f"style_{d}" for d in range(1, 6)]


def table(split: BlocksSplit, names: list[str]) -> Tensor:
    return torch.stack([split.factors[name] for name in names], -1)


def views(data: Blocks, num_views: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, content and style of groups drawn for training."""
    torch.manual_seed(0)
    (batch,) = data.load().train.batches(torch.arange(size), size, num_views)
    content, style = (torch.stack([batch.factors[name] for name in names], -1) for names in (CONTENT, STYLE))
    return batch.images, content, style


def undo(mixing: Mixing, x: Tensor) -> Tensor:
    """The latents of x, in float64."""
    layers = mixing.layers.double()
    mixed = x.double() / mixing.scale + mixing.loc
    for layer in reversed(layers[1:]):
        mixed = mixed @ torch.linalg.inv(layer).mT
        mixed = F.leaky_relu(mixed, 1 / SLOPE)
    return mixed @ torch.linalg.inv(layers[0]).mT


def test_splits_are_tables_of_factors_without_labels() -> None:
    data = Blocks(num_groups=200)
    splits = data.load()
    assert [len(split) for split in splits] == [200, 20, 40]
    assert data.views == "none"
    assert data.classes is None
    assert list(data.content_factors) == CONTENT
    for split in splits:
        assert split.labels is None
        assert split.event_shape == (10,)
        assert list(split.factors) == CONTENT + STYLE
        assert all(f.shape == (len(split),) and f.dtype == torch.float32 for f in split.factors.values())
        assert split.images(torch.arange(3)).dtype == torch.float32
    firsts = torch.cat([split.factors["content_1"] for split in splits])
    assert len(firsts.unique()) == 260


def test_x_is_an_invertible_function_of_the_factors() -> None:
    split = Blocks(num_groups=500, statistical=True, causal=True).load().test
    assert isinstance(split, BlocksSplit)
    x = split.images(torch.arange(100))
    latents = table(split, CONTENT + STYLE)
    torch.testing.assert_close(undo(split._mixing, x), latents.double(), atol=1e-3, rtol=1e-3)


def test_mixing_is_not_linear_and_layers_are_normalised_and_well_conditioned() -> None:
    mixing = draw_mixing(draw_latents(5, 5, False, False, torch.Generator()), torch.Generator().manual_seed(1))
    assert mixing.layers.shape == (3, 10, 10)
    torch.testing.assert_close(mixing.layers.norm(dim=1), torch.ones(3, 10))
    pool = 2 * torch.rand(2_000, 10, 10, generator=torch.Generator().manual_seed(2)) - 1
    condition = torch.linalg.cond(pool / pool.norm(dim=1, keepdim=True))
    # One in a thousand: of two thousand others about two are as good.
    assert torch.linalg.cond(mixing.layers).max() < condition.quantile(5 * KEPT / POOL)
    z = torch.randn(100, 10, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(mixing(z) + mixing(-z), 2 * mixing(torch.zeros(10)).expand(100, 10), atol=0.1)


@pytest.mark.parametrize("dependent", [False, True])
def test_x_has_unit_scale(dependent: bool) -> None:
    train = Blocks(mixing_seed=3, statistical=dependent, causal=dependent).load().train
    x = train.images(torch.arange(len(train)))
    torch.testing.assert_close(x.mean(0), torch.zeros(10), atol=0.05, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(10), atol=0.05, rtol=0)


def test_views_share_content_and_nothing_else() -> None:
    x, content, style = views(Blocks(), 3, 4_000)
    assert x.shape == (4_000, 3, 10)
    assert torch.equal(content, content[:, :1].expand_as(content))
    joint = torch.cat([content[:, 0], style.flatten(1)], -1).T
    torch.testing.assert_close(joint.cov(), torch.eye(20), atol=0.1, rtol=0)


def test_dependence_is_that_of_the_drawn_distribution() -> None:
    data = Blocks(statistical=True, causal=True)
    train = data.load().train
    assert isinstance(train, BlocksSplit)
    latents: Latents = train._latents
    _, content, style = views(data, 2, 40_000)
    covariance = latents.content_factor @ latents.content_factor.mT
    assert (covariance - torch.diag(covariance.diag())).abs().max() > 0.5
    torch.testing.assert_close(content[:, 0].T.cov(), covariance, atol=0.2, rtol=0.1)
    noise = style - (latents.offset + content @ latents.effect.mT)
    for view in (0, 1):
        torch.testing.assert_close(noise[:, view].mean(0), torch.zeros(5), atol=0.1, rtol=0)
        torch.testing.assert_close(
            noise[:, view].T.cov(), latents.style_factor @ latents.style_factor.mT, atol=0.3, rtol=0.1
        )
    cross = torch.cat([noise[:, 0], noise[:, 1], content[:, 0]], -1).T.corrcoef()
    assert cross[:5, 5:].abs().max() < 0.05


def test_some_style_dimensions_stay_and_the_law_stays_too() -> None:
    data = Blocks(statistical=True, causal=True, change_probability=0.3)
    train = data.load().train
    assert isinstance(train, BlocksSplit)
    latents = train._latents
    _, content, style = views(data, 2, 40_000)
    assert (style[:, 0] != style[:, 1]).float().mean(0) == pytest.approx([0.3] * 5, abs=0.02)
    noise = style - (latents.offset + content @ latents.effect.mT)
    covariance = latents.style_factor @ latents.style_factor.mT
    torch.testing.assert_close(noise[:, 1].T.cov(), covariance, atol=0.3, rtol=0.1)
    assert torch.cat([noise[:, 1], content[:, 0]], -1).T.corrcoef()[:5, 5:].abs().max() < 0.05


def test_styles_that_never_change_make_equal_views() -> None:
    x, _, _ = views(Blocks(change_probability=0.0), 2, 50)
    torch.testing.assert_close(x[:, 0], x[:, 1])


def test_training_groups_are_new_every_time_and_follow_the_global_generator() -> None:
    splits = Blocks(200).load()

    def draw(split: BlocksSplit) -> dict[str, Tensor]:
        (batch,) = split.batches(torch.arange(10), 10, num_views=2)
        return batch.factors | {"x": batch.images}

    state = torch.get_rng_state()
    first, second = draw(splits.train), draw(splits.train)
    torch.set_rng_state(state)
    again = draw(splits.train)
    for name in first:
        assert torch.equal(again[name], first[name])
        assert not torch.equal(second[name], first[name])
    order = torch.tensor([5, 3, 8])
    (fixed,) = splits.valid.batches(order, 10, num_views=2)
    for name in CONTENT:
        assert torch.equal(fixed.factors[name], splits.valid.factors[name][order, None].expand(3, 2))
    torch.testing.assert_close(fixed.images[:, 0], splits.valid.images(order))
    assert not torch.equal(fixed.factors["style_1"][:, 0], fixed.factors["style_1"][:, 1])


def test_batches_have_the_sizes_of_the_order() -> None:
    train = Blocks(200).load().train
    sizes = [batch.images.shape for batch in train.batches(torch.randperm(200)[:25], 10, num_views=2)]
    assert sizes == [(10, 2, 10), (10, 2, 10), (5, 2, 10)]


def test_seeds_choose_mixing_and_items() -> None:
    index = torch.arange(20)
    base, split, mixing = (Blocks(200, **seed).load() for seed in ({}, {"split_seed": 1}, {"mixing_seed": 1}))
    assert torch.equal(base.test.images(index), Blocks(200).load().test.images(index))
    assert torch.equal(base.test.images(index), split.test.images(index))
    assert not torch.equal(base.valid.images(index), split.valid.images(index))
    assert torch.equal(base.test.factors["style_1"], mixing.test.factors["style_1"])
    assert not torch.allclose(base.test.images(index), mixing.test.images(index))


def test_blocks_of_other_sizes() -> None:
    data = Blocks(100, content_dim=2, style_dim=3)
    train = data.load().train
    assert data.content_factors == ("content_1", "content_2")
    assert list(train.factors) == ["content_1", "content_2", "style_1", "style_2", "style_3"]
    assert train.event_shape == (5,)


def test_moving_leaves_the_original_where_it_is() -> None:
    train = Blocks(50).load().train
    moved = train.to("meta")
    (batch,) = moved.batches(torch.arange(4), 4, num_views=2)
    assert batch.images.device.type == "meta"
    assert moved.factors["style_1"].device.type == "cpu"
    assert train.images(torch.arange(2)).device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_groups": 5}, "5 groups are too few .*--data.num_groups"),
        ({"content_dim": 0}, "data.content_dim is 0: give a whole number, 1 or more"),
        ({"style_dim": -1}, "data.style_dim is -1"),
        ({"change_probability": 1.5}, "data.change_probability is 1.5: give a number from 0 to 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Blocks(**options)  # type: ignore[arg-type]
