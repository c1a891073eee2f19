import pytest
import torch

from pyro_simvae.data.sprites import RANGES, Sprites
from pyro_simvae.errors import InputError

FACTORS = ["shape", *RANGES]


def test_splits_have_their_factors_and_no_image_in_common() -> None:
    data = Sprites(num_images=200)
    splits = data.load()
    assert [len(split) for split in splits] == [200, 20, 40]
    assert data.classes is not None
    assert len(data.classes) == 12
    hues: set[float] = set()
    for split in splits:
        assert list(split.factors) == FACTORS
        assert split.labels is split.factors["shape"]
        for name, (low, high) in RANGES.items():
            assert split.factors[name].dtype == torch.float32
            assert split.factors[name].min() >= low
            assert split.factors[name].max() < high
        hues |= set(split.factors["hue"].tolist())
    assert len(hues) == 260


def test_the_split_seed_leaves_the_test_images_alone() -> None:
    first, second = Sprites(200, split_seed=0).load(), Sprites(200, split_seed=1).load()
    assert torch.equal(first.test.factors["hue"], second.test.factors["hue"])
    assert not torch.equal(first.train.factors["hue"], second.train.factors["hue"])


def test_views_share_the_content_and_nothing_else() -> None:
    data = Sprites(200, content=("shape", "scale"))
    train = data.load().train
    assert data.views == "none"
    order = torch.randperm(200)[:50]
    first, last = train.batches(order, 30, num_views=3)
    assert first.images.shape == (30, 3, 3, 32, 32)
    assert last.images.shape == (20, 3, 3, 32, 32)
    for name in FACTORS:
        drawn = torch.cat([first.factors[name], last.factors[name]])
        assert drawn.shape == (50, 3)
        shared = torch.equal(drawn, train.factors[name][order, None].float().expand(50, 3))
        assert shared == (name in ("shape", "scale"))
        if not shared:
            assert (drawn.std(dim=1) > 0).all()


def test_styles_follow_the_global_generator_and_change_every_time() -> None:
    train = Sprites(50).load().train

    def draw_batch() -> torch.Tensor:
        (batch,) = train.batches(torch.arange(10), 10, num_views=2)
        return batch.images

    state = torch.get_rng_state()
    first, second = draw_batch(), draw_batch()
    torch.set_rng_state(state)
    assert torch.equal(draw_batch(), first)
    assert not torch.equal(second, first)


def test_groups_to_augment_hold_one_image() -> None:
    data = Sprites(50, size=16, groups="augment")
    train = data.load().train
    assert data.views == "sprites"
    (batch,) = train.batches(torch.arange(10), 10, num_views=2)
    assert torch.equal(batch.images[:, 0], train.images(torch.arange(10)))
    assert torch.equal(batch.factors["x"][:, 0], train.factors["x"][:10])
    assert train.event_shape == (3, 16, 16)


def test_moving_leaves_the_original_where_it_is() -> None:
    train = Sprites(50).load().train
    train.to("meta")
    assert train.images(torch.arange(2)).device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_images": 5}, "5 images are too few .*--data.num_images"),
        ({"size": 8}, "blur at 8 pixels; set --data.size"),
        ({"groups": "contents"}, "unknown way to group sprites 'contents': did you mean content"),
        ({"content": ("hues",)}, "unknown content factor 'hues': did you mean hue"),
        ({"content": ()}, "must share some factors but not all; name a few"),
        ({"content": tuple(FACTORS)}, "must share some factors but not all; name a few"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Sprites(**options)  # type: ignore[arg-type]
