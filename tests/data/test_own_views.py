"""Views that an augmentation of the user's draws."""

import pytest
import torch
import yaml
from torch import nn

from pyro_simvae import cli
from pyro_simvae.components import build, complete
from pyro_simvae.data import Augmentation, OwnAugmentation
from pyro_simvae.data.own_views import OwnViews
from pyro_simvae.data.paired import views_of
from pyro_simvae.errors import InputError

N, J, EVENT = 5, 3, (1, 6, 6)
FILE = """
import torch
from pyro_simvae.data import OwnAugmentation

class Noisy(OwnAugmentation):
    def __init__(self, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, items):
        return items + self.noise * torch.randn_like(items)
"""


class Noisy(OwnAugmentation):
    def forward(self, items):
        return items + 0.1 * torch.randn_like(items)


class Plain(OwnAugmentation):
    def forward(self, items):
        return items


class Returning(OwnAugmentation):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, items):
        return self.change(items)


def test_each_view_is_drawn_anew_and_a_seed_repeats_it():
    views = views_of(Noisy(), EVENT)
    assert isinstance(views, OwnViews)
    images = torch.full((N, 1, *EVENT), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    first, drawn = views(images, J)
    torch.manual_seed(0)
    again, _ = views(images, J)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert first.shape == (N, J, *EVENT)
    assert first.dtype == torch.float32
    assert drawn == {}
    assert first.flatten(0, 1).flatten(1).unique(dim=0).shape[0] == N * J
    assert (first - 128 / 255).abs().max() > 0.1
    torch.testing.assert_close(views.plain(images[:, 0]), torch.full((N, *EVENT), 128 / 255))


def test_a_view_is_of_its_own_item():
    images = torch.rand(N, 1, *EVENT)
    x, _ = OwnViews(Returning(lambda items: items.flip(-1)), EVENT)(images, J)
    torch.testing.assert_close(x, images.flip(-1).expand_as(x))
    given = torch.rand(N, J, *EVENT)  # an item for each view
    torch.testing.assert_close(OwnViews(Returning(nn.Identity()), EVENT)(given, J)[0], given)


def test_images_stay_in_the_unit_interval_and_vectors_as_they_are():
    assert OwnViews(Returning(lambda items: items + 1), EVENT)(torch.rand(N, 1, *EVENT), J)[0].max() == 1
    vectors = torch.randn(N, 1, 4)
    x, _ = OwnViews(Returning(lambda items: items + 1), (4,))(vectors, J)
    torch.testing.assert_close(x, (vectors + 1).expand(N, J, 4))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda items: items[:, :, :5], r"float32 \(15, 1, 5, 6\)"),
        (lambda items: items.double(), r"float64 \(15, 1, 6, 6\)"),
        (lambda items: [items], "list"),
    ],
)
def test_other_shapes_are_refused(change, found):
    with pytest.raises(InputError, match=rf"Returning makes .*{found} of .*float32 .* should have the shape"):
        OwnViews(Returning(change), EVENT)(torch.rand(N, 1, *EVENT), J)


def test_without_a_constructor_of_its_own_it_has_no_options():
    assert complete("views", Plain) == {"class_path": f"{__name__}.Plain", "init_args": {}}
    assert isinstance(build("views", Plain), Plain)


def test_it_has_to_say_what_a_view_is():
    with pytest.raises(TypeError, match="abstract"):
        OwnAugmentation()


def test_of_paired_data_images_alone_are_augmented():
    views = views_of(Noisy(), {"image": EVENT, "words": (2, 7)})
    kinds = {name: type(each).__name__ for name, each in views.views.items()}
    assert kinds == {"image": "OwnViews", "words": "Views"}
    assert views.views["words"].augmentation == Augmentation()


def test_from_the_command_by_its_file(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisy.py").write_text(FILE)
    options = ["--data", f"arrays:{images}", "--network", "mlp", "--network.hidden", "[8]", "--training.epochs", "2"]
    options += ["--training.num_groups", "8", "--views", "noisy.py", "--views.noise", "0.2"]
    assert cli.main(["fit", *options, "--out", "run"]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["views"]["init_args"] == {"noise": 0.2}
    assert (tmp_path / "run" / "views.py").read_text() == FILE
    assert cli.main(["fit", "--config", "run/config.yaml", "--out", "again"]) == 0
    metrics = [(tmp_path / run / "metrics.csv").read_bytes() for run in ("run", "again")]
    assert metrics[0] == metrics[1]
    assert cli.main(["evaluate", "run", "--metrics", "[style]"]) == 0
