"""Drawings of stories whose plates and dependencies are known."""

import math
import shutil

import pyro
import pytest
import torch
from pyro import distributions as dist

from pyro_simvae.components import KNOWN
from pyro_simvae.editing.graph import graph, source, text
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import rng
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import Mixture, SimVAE
from pyro_simvae.networks import MLP

D, EVENT = 3, (1, 2, 2)
SMALL = {"class_path": "mlp", "init_args": {"hidden": [4]}}
SUITS = {
    "linear": {"network": "linear", "likelihood": "normal"},
    "spherical": {"guide": "spherical"},
    "multimodal": {"data": "paired_digits"},
}


def story(cls=SimVAE, **arguments):
    with rng.isolated(0):
        return cls(Normal(MLP([4]).decoder(EVENT, D)), D, **arguments)


class Bright(SimVAE):
    """With a brightness of each view, a rate of all groups, and a function of both."""

    def latent(self, content):
        rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
        brightness = pyro.sample("brightness", dist.Exponential(rate))
        pyro.deterministic("dark", 1 / brightness, event_dim=0)
        return dist.Normal(content, brightness.unsqueeze(-1)).to_event(1)


def test_plates_are_blocks_and_parents_are_named():
    assert text(story()).splitlines() == [
        "plate groups",
        "│ content ~ Normal (3,)",
        "│ plate views",
        "│ │ z ~ Normal (3,)       ← content",
        "│ │ x ~ Normal (1, 2, 2)  ← z        observed",
    ]


def test_sites_of_ones_own_have_their_place():
    lines = [" ".join(line.split()) for line in text(story(Bright)).splitlines()]
    assert lines == [
        "plate groups",
        "│ content ~ Normal (3,)",
        "│ plate views",
        "│ │ rate ~ Gamma",
        "│ │ brightness ~ Exponential ← rate",
        "│ │ dark ~ Delta ← brightness deterministic",
        "│ │ z ~ Normal (3,) ← content, brightness",
        "│ │ x ~ Normal (1, 2, 2) ← z observed",
    ]


def test_a_discrete_site_that_is_summed_out_says_so():
    assert "│ cluster ~ Categorical" in text(story(Mixture))
    assert "enumerated" in text(story(Mixture))


def test_flat_content_is_drawn_without_a_draw():
    assert "content ~ Flat (3,)" in text(story(content_scale=math.inf))
    assert "content -> z" in source(story(content_scale=math.inf))


def test_a_guide_is_drawn_from_views():
    model = story()
    guide = MeanField(model, MLP([4]).encoder(EVENT, D))
    x = torch.zeros(2, 2, *EVENT)
    assert "│ content ~ Normal (3,)  ← z" in text(guide, x)
    assert "z -> content" in source(guide, x)


def test_the_source_has_nodes_edges_and_plates():
    drawn = source(story())
    for part in ("subgraph cluster_groups", "subgraph cluster_views", "content -> z", "z -> x"):
        assert part in drawn
    assert "content -> x" not in drawn
    (x,) = {line.strip() for line in drawn.splitlines() if line.strip().startswith("x [")}
    assert "fillcolor=gray" in x
    assert "ContinuousBernoulli" not in drawn
    assert "x ~ Normal" in drawn  # not that of the lazily decoded likelihood


def test_drawing_leaves_generators_and_parameters_alone():
    model = story(learn_style_scale="shared")
    state = torch.get_rng_state()
    text(model)
    source(model)
    assert torch.equal(state, torch.get_rng_state())
    assert not len(pyro.get_param_store())
    assert model.training


@pytest.mark.parametrize("name", KNOWN["model"])
def test_every_known_story_is_drawn_with_its_guide(name, capsys):
    assert graph(name, **{"network": SMALL} | SUITS.get(name, {})) == []
    printed = capsys.readouterr().out
    assert printed.startswith("story ")
    assert "\nguide " in printed
    assert "← " in printed


def test_without_graphviz_its_source_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    files = graph("simvae", network=SMALL, out=str(tmp_path / "figures" / "story.pdf"))
    assert [file.name for file in files] == ["story.gv", "story_guide.gv"]
    assert "content -> z" in files[0].read_text()
    assert "z -> content" in files[1].read_text()
    assert "Graphviz is not installed" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"story.gv exists: choose another --out"):
        graph("simvae", network=SMALL, out=str(tmp_path / "figures" / "story.gv"))


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize(("suffix", "magic"), [(".pdf", b"%PDF"), (".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_with_graphviz_a_picture_is_drawn(tmp_path, suffix, magic):
    for file in graph("simvae", network=SMALL, out=str(tmp_path / f"story{suffix}")):
        assert file.suffix == suffix
        assert file.read_bytes().startswith(magic)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"story.jpg is no picture: give --out NAME.gv, NAME.pdf"):
        graph("simvae", network=SMALL, out=str(tmp_path / "story.jpg"))

    class Broken(SimVAE):
        def latent(self, content):
            return self.missing

    with pytest.raises(InputError, match=r"Broken cannot be drawn, since it does not run .*: see what .* check says"):
        text(story(Broken))
