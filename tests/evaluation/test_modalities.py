"""Each modality scored by itself, and retrieval between them."""

import numpy as np
import pytest
import torch
from rich.console import Console

from pyro_simvae import limits
from pyro_simvae.data import Augmentation
from pyro_simvae.data.captions import PairedDigits
from pyro_simvae.data.paired import views_of
from pyro_simvae.evaluation.encoders import OneModality
from pyro_simvae.evaluation.modalities import score_modalities
from pyro_simvae.evaluation.retrieval import retrieve
from pyro_simvae.evaluation.score import Subject
from pyro_simvae.evaluation.tables import print_evaluation
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Categorical, ContinuousBernoulli
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import Multimodal
from pyro_simvae.networks import MLP, Encoders

SHAPES = {"image": (1, 8, 8), "text": (5, 27)}


def pair(dim=4):
    torch.manual_seed(0)
    network = MLP([8])
    families = {"image": ContinuousBernoulli, "text": Categorical}
    model = Multimodal({n: families[n](network.decoder(SHAPES[n], dim)) for n in SHAPES}, dim)
    return model, MeanField(model, Encoders({n: network.encoder(SHAPES[n], dim) for n in SHAPES}))


@pytest.mark.parametrize("limit", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_one_modality_is_read_from_its_own_views(name, limit):
    model, guide = pair()
    encoder = guide.encoder.encoders[name]
    if limit:
        model, guide = limits.clip()(model, guide)
    x = torch.rand(3, *SHAPES[name])
    latent = OneModality(guide, name, SHAPES).latent(x[:, None])
    loc, scale = encoder(x)
    if limit:
        loc, scale = model.latents.unit * loc / loc.norm(dim=-1, keepdim=True), torch.zeros_like(scale)
    torch.testing.assert_close(latent.mean[:, 0], loc)
    torch.testing.assert_close(latent.stddev[:, 0], scale)


def test_scores_of_every_modality_and_direction():
    dataset = PairedDigits(missing=0.5)
    fitted, untrained = LedgerELBO(*pair()), pair()[1]
    views = views_of(Augmentation(), SHAPES)
    subject = Subject(fitted, untrained, dataset.load(), views, dataset, 2, seed=0)
    console = Console(record=True, width=120)
    found = score_modalities(subject, console, metrics=["probes", "clusters"])
    assert set(found) == {"modalities", "retrieval"}
    for scores in found["modalities"].values():
        assert set(scores) == {"z", "raw", "untrained"}
    assert found["modalities"]["text"]["raw"]["label"]["knn"] == 1
    assert set(found["retrieval"]) == {"image to text", "text to image"}
    # One text a class: to find one's own text is to find one's class.
    direction = found["retrieval"]["image to text"]
    assert direction["recall_1"] == direction["class"]
    print_evaluation(found, console)
    assert "recall at 10" in console.export_text()


def test_retrieval_by_hand():
    queries = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    targets = np.array([[0.1], [0.9], [1.1], [9.0]], dtype=np.float32)
    # 0: own nearest. 1: own and target 2 equally near. 2: own nearest. 3: target 2 is nearest.
    found = retrieve(queries, targets, np.array([0, 1, 1, 1]))
    assert found == {"recall_1": 0.75, "recall_10": 1.0, "class": 1.0}
    assert "class" not in retrieve(queries, targets, None)
    # Turned round, only query 2, which then lies between targets 1 and 2, has no other target nearer than its own.
    assert retrieve(queries[::-1].copy(), targets, None)["recall_1"] == 0.25


def test_equal_candidates_do_not_count_against_a_partner():
    words = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    targets = words[np.arange(30) % 3]
    found = retrieve(targets + np.float32(1e-3), targets, None)
    assert found["recall_1"] == 1.0


def test_missing_views_are_no_part_of_what_is_encoded():
    _, guide = pair()
    x = Modalities({n: torch.rand(2, *shape) for n, shape in SHAPES.items()}, torch.tensor([[True, False], [True] * 2]))
    loc, _ = guide.encoder(x)
    assert not loc[0, 1].any()
