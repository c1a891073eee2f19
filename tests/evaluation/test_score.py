"""An evaluation as a whole: which scores a run has, which are left out and why, and what they say of a known guide."""

import json

import numpy as np
import pyro
import pytest
import torch
from pyro.nn import PyroModule
from rich.console import Console
from torch import nn

from pyro_simvae import commands
from pyro_simvae.data import Splits, Views, preset
from pyro_simvae.data.digits import Digits
from pyro_simvae.data.splits import Batch, Split, index_batches
from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.score import FAMILIES, Subject, score
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP


@pytest.fixture
def quiet():
    return Console(quiet=True)


class Vectors(Split):
    """x = (c_1, c_2, s_1, s_2): content is an item's own, style is drawn anew for each view."""

    def __init__(self, count, seed):
        content = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
        self.content = content
        self.labels = (content[:, 0] > 0).long()
        self.factors = {
            "c_1": content[:, 0],
            "c_2": content[:, 1],
            "s_1": torch.randn(count),
            "s_2": torch.randn(count),
        }

    @property
    def event_shape(self):
        return (4,)

    def __len__(self):
        return len(self.content)

    def images(self, index):
        return torch.stack([self.factors[name][index] for name in ("c_1", "c_2", "s_1", "s_2")], -1)

    def batches(self, order, batch_size, num_views):
        for index in index_batches(order, batch_size):
            content = self.content[index, None].expand(-1, num_views, 2)
            x = torch.cat([content, torch.randn(len(index), num_views, 2)], -1)
            yield Batch(x, {name: x[..., k] for k, name in enumerate(self.factors)})

    def to(self, device):
        return self


class Identity(PyroModule):
    """z = x; content is the mean of z over the views, where it is content, and zero where it is style."""

    def __init__(self, scale=0.01):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def latent(self, x):
        return Gaussian(x, self.scale)

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2):
            with pyro.plate("views", x.shape[1], dim=-1):
                z = pyro.sample("z", self.latent(x))
            mean = z.mean(-2, keepdim=True) * torch.tensor([1.0, 1.0, 0.0, 0.0])
            pyro.sample("content", Gaussian(mean, 0.1))


@pytest.fixture
def subject():
    torch.manual_seed(0)
    splits = Splits(Vectors(400, 0), Vectors(200, 1), Vectors(300, 2))
    model = SimVAE(Normal(MLP([4]).decoder((4,), 4)), 4)
    views = Views(preset("none"), (4,))
    dataset = Digits()
    dataset.content_factors = ("c_1", "c_2")
    return Subject(LedgerELBO(model, Identity()), Identity(), splits, views, dataset, 2, seed=0)


def test_content_and_style_are_told_apart(subject, quiet):
    found = score(subject, quiet, metrics=["probes", "style"])
    assert found.content_targets == ["label", "c_1", "c_2"]
    assert found.style_targets == ["s_1", "s_2"]
    for factor in ("c_1", "c_2", "s_1", "s_2"):
        assert found.scores["z"][factor]["linear"] > 0.99
    content, style = found.scores["content"], found.scores["style"]
    assert min(content["c_1"]["linear"], content["c_2"]["linear"]) > 0.99
    assert max(content["s_1"]["linear"], content["s_2"]["linear"]) < 0.05
    assert max(style["c_1"]["linear"], style["c_2"]["linear"]) < 0.05
    assert min(style["s_1"]["linear"], style["s_2"]["linear"]) > 0.99
    assert content["label"]["linear"] > 0.95
    assert style["label"]["linear"] < 0.65


def test_metrics_and_representations_that_are_asked_for_are_all_that_is_scored(subject, quiet):
    found = score(subject, quiet, metrics=["health"], representations=["z"])
    assert set(found.scores) == {"z"}
    assert set(found.scores["z"]) == {"none"}
    assert found.scores["z"]["none"]["posterior_scale"] == pytest.approx(0.01, rel=1e-3)


def test_without_labels_there_are_label_free_metrics_only_and_it_says_so(subject, quiet):
    for split in subject.splits:
        split.labels = None
    found = score(
        subject, quiet, metrics=["probes", "clusters", "few_labels", "trust", "health"], representations=["z"]
    )
    assert "label" not in found.scores["z"]
    assert "rankme" in found.scores["z"]["none"]
    assert any("the data has none" in line for line in found.left_out)
    assert "label" not in found.content_targets


def test_a_factor_with_one_value_is_left_out_with_the_reason(subject, quiet):
    for split in subject.splits:
        split.factors["flat"] = torch.ones(len(split), dtype=torch.int64)
    found = score(subject, quiet, metrics=["probes"], representations=["z"])
    assert "flat" not in found.scores["z"]
    assert any("flat" in line for line in found.left_out)
    assert "c_1" in found.scores["z"]


def test_permuted_labels_give_chance_in_every_family(subject, quiet):
    generator = torch.Generator().manual_seed(1)
    for split in subject.splits:
        split.labels = split.labels[torch.randperm(len(split), generator=generator)]
    found = score(
        subject, quiet, metrics=["probes", "clusters", "few_labels", "style"], representations=["z", "content"]
    )
    label = found.scores["z"]["label"]
    # 300 test items at 1/2 have a standard deviation of 0.03.
    for metric in ("knn", "linear", "mlp", "kmeans_accuracy", "few_10"):
        assert 0.35 < label[metric] < 0.65, metric
    assert 0.35 < found.scores["content"]["label"]["linear"] < 0.65


@pytest.mark.parametrize(
    ("options", "text"),
    [({"metrics": ["probe"]}, "did you mean probes"), ({"representations": ["latent"]}, "unknown representation")],
)
def test_unknown_names(subject, quiet, options, text):
    with pytest.raises(InputError, match=text):
        score(subject, quiet, **options)


def test_a_run_has_every_family(fit_images):
    run = fit_images()
    found = commands.evaluate(str(run))
    assert found == json.loads((run / "evaluation.json").read_text())
    scores = found["scores"]
    assert set(scores) == {"z", "raw", "untrained", "content", "style", "story"}
    label = scores["z"]["label"]
    assert set(label) >= {"knn", "linear", "mlp", "kmeans_accuracy", "gmm_accuracy", "few_1", "few_5", "ece"}
    assert found["style_targets"] == ["crop_box", "horizontal_flip"]
    assert "kernel" in scores["style"]["crop_box"]
    assert "linear" in scores["style"]["horizontal_flip"]
    assert scores["story"]["none"]["bound"] >= scores["story"]["none"]["bound_elbo"]
    values = [value for targets in scores.values() for metrics in targets.values() for value in metrics.values()]
    assert np.isfinite(values).all()
    assert len(FAMILIES) == 8


def test_a_limit_has_no_generation_and_says_so(fit_images):
    run = fit_images(limit="simclr")
    found = commands.evaluate(str(run), metrics=["generation", "health"])
    assert "story" not in found["scores"]
    assert any("decoder" in line for line in found["left_out"])
    assert found["scores"]["z"]["none"]["posterior_scale"] == 0
