"""CLIP against the paper's pseudo-code, its temperature included; its pair on the multimodal story."""

import math
import subprocess
import sys

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Categorical, ContinuousBernoulli, Normal
from pyro_simvae.limits.latents import TracedLatents
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import Multimodal
from pyro_simvae.networks import MLP, Encoders

SHAPES = {"image": (1, 2, 3), "text": (2, 4), "sound": (5,)}
FAMILIES = {"image": ContinuousBernoulli, "text": Categorical, "sound": Normal}


def clip(images, texts, log_scale):
    """Radford et al. 2021, figure 3, line by line, from the joint embeddings on."""
    images = images / images.norm(dim=1, keepdim=True)
    texts = texts / texts.norm(dim=1, keepdim=True)
    logits = images @ texts.T * log_scale.exp()
    labels = torch.arange(len(images))
    loss_i = F.cross_entropy(logits, labels)
    loss_t = F.cross_entropy(logits.T, labels)
    return (loss_i + loss_t) / 2


def clip_of_pairs(z, log_scale):
    """The mean over unordered pairs of modalities."""
    pairs = [(m, k) for m in range(z.shape[1]) for k in range(m)]
    return sum(clip(z[:, m], z[:, k], log_scale) for m, k in pairs) / len(pairs)


@pytest.mark.parametrize(("num_groups", "dim"), [(2, 3), (3, 2), (7, 5), (32, 16)])
@pytest.mark.parametrize("num_modalities", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5, 2.0])
@pytest.mark.parametrize("collapsed", [False, True])
def test_is_figure_3(assert_same, representations, num_groups, num_modalities, dim, temperature, collapsed):
    z, limit = representations(num_groups, num_modalities, dim, collapsed), limits.clip(temperature).double()
    loss = limit.loss(z).total
    reference = clip_of_pairs(z, limit.log_scale)
    of_scale = [torch.autograd.grad(value, limit.log_scale, retain_graph=True)[0] for value in (loss, reference)]
    torch.testing.assert_close(*of_scale, rtol=1e-7, atol=1e-10)
    assert_same(loss, reference, z)


def test_begins_at_the_literatures_temperature_and_stops_at_its_largest_scale(representations):
    limit, z = limits.clip(), representations(4, 2, 3)
    assert limit.log_scale.exp().item() == pytest.approx(1 / 0.07)
    assert set(dict(limit.named_parameters())) == {"log_scale"}
    with torch.no_grad():
        limit.log_scale.fill_(7.0)
    loss = limit.loss(z)
    loss.total.backward()
    assert limit.log_scale.item() == pytest.approx(math.log(100))
    assert limit.log_scale.grad.abs() > 0


def test_terms_are_those_of_the_literature(representations):
    z = representations(6, 2, 4)
    terms = limits.clip(0.2).loss(z)
    unit = F.normalize(z, dim=-1)
    torch.testing.assert_close(terms["agreement"], -(unit[:, 0] * unit[:, 1]).sum(-1).mean() / 0.2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, 0.009])
def test_temperature_out_of_range(temperature):
    with pytest.raises(InputError, match="temperature is"):
        limits.clip(temperature)


def multimodal(names=("image", "text"), story=Multimodal, dim=4, **arguments):
    network = MLP([4])
    likelihood = {name: FAMILIES[name](network.decoder(SHAPES[name], dim)) for name in names}
    model = story(likelihood, dim, **{"content_scale": math.inf, **arguments}).double()
    encoder = Encoders({name: network.encoder(SHAPES[name], dim) for name in names})
    return model, MeanField(model, encoder).double()


def batch(num_groups, names=("image", "text")):
    views = {name: torch.rand(num_groups, *SHAPES[name], dtype=torch.float64) for name in names}
    return Modalities(views)


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "sound")])
@pytest.mark.parametrize("style_scale", [0.4, 1.7])
@pytest.mark.parametrize("content", ["pairwise", "leave-one-out"])
def test_pair_is_the_loss(names, style_scale, content):
    model, guide = multimodal(names, style_scale=style_scale)
    elbo, x = LedgerELBO(*limits.clip(0.3, content)(model, guide)), batch(6, names)
    limit = elbo.model.limit
    z, _ = guide.encoder(x)
    reference = limit.loss(z).total
    objective = elbo(x).objective
    constant = sum(limit.constants(*z.shape).values())
    torch.testing.assert_close(-objective / math.prod(z.shape[:2]) + constant, reference, rtol=1e-9, atol=0)
    parameters = [*guide.parameters(), limit.log_scale]
    found = torch.autograd.grad(-objective / math.prod(z.shape[:2]), parameters, allow_unused=True)
    expected = torch.autograd.grad(reference, parameters, allow_unused=True)
    assert expected[-1].abs() > 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


def test_pair_of_one_kind_of_view_is_the_loss_too(pair):
    model, guide = pair()
    x = torch.randn(6, 3, 5, dtype=torch.float64)
    limit_model, limit_guide = limits.clip()(model, guide)
    objective = LedgerELBO(limit_model, limit_guide).double()(x).objective
    z, _ = guide.encoder(x)
    constant = sum(limit_model.limit.constants(*z.shape).values())
    torch.testing.assert_close(-objective / 18 + constant, limit_model.limit.loss(z).total, rtol=1e-9, atol=0)


def test_limit_runs_no_decoder_and_the_full_program_runs_all():
    model, guide = multimodal()
    runs = []
    for likelihood in model.likelihood.values():
        likelihood.decoder.register_forward_hook(lambda *_: runs.append(1))
    LedgerELBO(*limits.clip()(model, guide))(batch(4))
    assert not runs
    LedgerELBO(*limits.clip(t=0.5)(model, guide))(batch(4))
    assert len(runs) == 2


def test_at_zero_it_is_the_program():
    model, guide = multimodal()
    x = batch(4)
    found = []
    for elbo in (LedgerELBO(model, guide), LedgerELBO(*limits.clip(t=0)(model, guide))):
        torch.manual_seed(1)
        found.append(elbo(x))
    torch.testing.assert_close(found[0].objective, found[1].objective)
    torch.testing.assert_close(found[0].terms, found[1].terms)


class HeavyTailed(Multimodal):
    def latent(self, content):
        return pyro.distributions.StudentT(3.0, content, self.style_scale).to_event(1)


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "sound")])
def test_edited_story_gives_an_edited_loss(names):
    model, guide = multimodal(names, HeavyTailed, dim=2, content_scale=1.0)
    elbo, x = LedgerELBO(*limits.clip()(model, guide)), batch(3, names)
    assert isinstance(elbo.model.latents, TracedLatents)
    elbo(x).objective.backward()
    gradient = next(elbo.guide.parameters()).grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_few_steps_in_plain_pyro_lower_the_loss_and_move_the_temperature():
    limit_model, limit_guide = limits.clip()(*multimodal())
    x = batch(16)
    pyro.clear_param_store()
    svi = SVI(limit_model, limit_guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(40)]
    assert losses[-1] < losses[0]
    assert limit_model.limit.log_scale.exp().item() != pytest.approx(1 / 0.07)
    pyro.clear_param_store()


def test_state_survives_a_round_trip():
    first, second = (LedgerELBO(*limits.clip(temperature)(*multimodal())) for temperature in (0.07, 0.5))
    second.load_state_dict(first.state_dict())
    x = batch(4)
    torch.testing.assert_close(first(x).objective, second(x).objective)


def test_missing_modality_is_refused():
    elbo = LedgerELBO(*limits.clip()(*multimodal()))
    x = Modalities(batch(3).views, torch.tensor([[True, True], [True, False], [True, True]]))
    with pytest.raises(InputError, match="some groups lack a modality"):
        elbo(x)


HALF = """
import os
import sys
import torch
from torch import distributed
from pyro_simvae import limits

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
limit, half = limits.clip().double(), torch.load(f"{folder}/z.pt").chunk(2)[rank].requires_grad_()
loss = limit.loss(half).total
loss.backward()
torch.save((loss.detach(), half.grad, limit.log_scale.grad), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
os._exit(0)  # gloo's threads may abort an ordinary end
"""


def test_two_processes_are_one(tmp_path, representations):
    z, limit = representations(8, 3, 4), limits.clip().double()
    loss = limit.loss(z).total
    loss.backward()
    torch.save(z.detach().clone(), tmp_path / "z.pt")
    halves = [subprocess.Popen([sys.executable, "-P", "-c", HALF, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [half.wait(timeout=120) for half in halves] == [0, 0]
    losses, gradients, of_scale = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    torch.testing.assert_close(sum(losses) / 2, loss.detach())
    torch.testing.assert_close(torch.cat(gradients) / 2, z.grad)
    torch.testing.assert_close(sum(of_scale) / 2, limit.log_scale.grad)
