"""The pair of a limit: the same programs under handlers, from the ELBO at t = 0 to the loss at t = 1."""

import copy
import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import SemiAmortized
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.limits.latents import GaussianLatents
from pyro_simvae.models import VAE, SimVAE
from pyro_simvae.networks import MLP


class StudentStyle(SimVAE):
    def latent(self, content):
        return dist.StudentT(3.0, content, self.style_scale, validate_args=False).to_event(1)


def views(num_groups=6, num_views=2):
    return torch.randn(num_groups, num_views, 5, dtype=torch.float64)


def gradients(value, parameters):
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def negative_objective(pair, x, seed=1):
    torch.manual_seed(seed)
    return -LedgerELBO(*pair)(x).objective


@pytest.mark.parametrize("content_scale", [1.0, math.inf])
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("name", ["simclr", "dcl", "infonce"])
def test_limit_of_a_gaussian_story_is_the_loss(pair, name, num_views, content_scale):
    # On the sphere finite content changes the temperature's mapping only, so the loss is the same.
    model, guide = pair(content_scale=content_scale)
    limit, x = getattr(limits, name)(temperature=0.3), views(num_views=num_views)
    found = negative_objective(limit(model, guide), x) / (6 * num_views)
    loc, _ = guide.encoder(x)
    loss = limit.loss(loc)
    constant = math.log(limit.num_candidates(6, num_views))
    torch.testing.assert_close(found + constant, loss.total)
    parameters = list(guide.parameters())
    torch.testing.assert_close(gradients(found, parameters), gradients(loss.total, parameters))


def test_plain_svi_and_the_ledger_agree(pair):
    limited, x = limits.simclr()(*pair()), views()
    expected = negative_objective(limited, x).item()
    loss = SVI(*limited, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO()).evaluate_loss(x)
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("content", ["joint", "pairwise", "leave-one-out"])
def test_knob_is_the_elbo_at_zero(pair, content):
    model, guide = pair(content_scale=1.0)
    x, parameters = views(num_views=3), [*model.parameters(), *guide.parameters()]
    elbo = negative_objective((model, guide), x)
    found = negative_objective(limits.simclr(content=content, t=0.0)(model, guide), x)
    torch.testing.assert_close(found, elbo)
    torch.testing.assert_close(gradients(found, parameters), gradients(elbo, parameters))


@pytest.mark.parametrize("content", ["joint", "pairwise"])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.7, 1.0])
def test_knob_is_continuous(pair, content, t):
    model, guide = pair(content_scale=1.0)
    x, parameters = views(), [*model.parameters(), *guide.parameters()]

    def at(knob):
        value = negative_objective(limits.simclr(content=content, t=knob)(model, guide), x)
        return torch.cat([value.reshape(1), gradients(value, parameters)])

    near = at(t + (1e-8 if t < 1 else -1e-8))
    torch.testing.assert_close(near, at(t), rtol=1e-3, atol=1e-3)


def test_knob_in_between_is_its_formula(pair):
    model, guide = pair(content_scale=1.0)
    x, t = views(), 0.4
    limited = limits.simclr(content="joint", temperature=None, t=t)(model, guide)
    torch.manual_seed(1)
    found = LedgerELBO(*limited)(x)
    torch.manual_seed(1)
    loc, scale = guide.encoder(x)
    noise = torch.randn_like(loc)
    z = (1 - t) * (loc + scale * noise) + t * F.normalize(loc, dim=-1)
    latents = GaussianLatents(model.style_scale, 1.0)
    log_q = dist.Normal(loc, scale).log_prob(loc + scale * noise).sum()
    density = torch.stack([
        torch.logsumexp(latents.kernel(z.reshape(-1, 4)[[i]], z.reshape(-1, 4)[[k for k in range(12) if k != i]]), -1)
        for i in range(12)
    ]) - math.log(11)  # fmt: skip
    expected = (1 - t) * (model.likelihood(z).log_prob(x).sum() - log_q) + latents.evidence(z).sum() - t * density.sum()
    torch.testing.assert_close(found.objective, expected)


@pytest.mark.parametrize("content_scale", [1.0, math.inf])
def test_joint_content_scores_the_group_evidence(pair, content_scale):
    model, guide = pair(content_scale=content_scale)
    limit, x = limits.simclr(content="joint"), views(num_views=3)
    limited, _ = limit(model, guide)
    found = negative_objective(limit(model, guide), x) / 18
    z = F.normalize(guide.encoder(x)[0], dim=-1)
    terms = limit.terms(z, limited.latents, limits.Given())
    torch.testing.assert_close(found, -sum(term.mean() for term in terms.values()))


def test_student_story_gives_a_heavy_tailed_contrastive_loss(pair):
    """The naive formula: kernels by a fine sum over content, NT-Xent written out."""
    model, guide = pair(StudentStyle, style_scale=0.5)
    x = views(4)
    found = negative_objective(limits.simclr(temperature=None)(model, guide), x) / 8
    z = F.normalize(guide.encoder(x)[0], dim=-1).reshape(8, 4)
    grid = torch.linspace(-400, 400, 400_001, dtype=z.dtype)
    density = dist.StudentT(3.0, grid, 0.5).log_prob(z.unsqueeze(-1)).exp()  # (8, D, grid)
    step = grid[1] - grid[0]
    log_kernel = ((density[:, None] * density).sum(-1) * step).log().sum(-1)  # flat content: ∫ p(z|c) dc = 1
    partner = torch.arange(8) ^ 1
    expected = 0.0
    for i in range(8):
        candidates = log_kernel[i, [k for k in range(8) if k != i]]
        expected = expected - (log_kernel[i, partner[i]] - candidates.logsumexp(0) + math.log(7)) / 8
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    parameters = list(guide.encoder.parameters())
    torch.testing.assert_close(gradients(found, parameters), gradients(expected, parameters), rtol=1e-4, atol=1e-5)
    gaussian = limits.simclr(temperature=0.5).loss(z.reshape(4, 2, 4)).total - math.log(7)
    assert not torch.isclose(found, gaussian, rtol=1e-2)


@pytest.mark.parametrize("content", ["joint", "pairwise", "leave-one-out"])
def test_decoder_is_not_run(pair, content):
    model, guide = pair()
    runs = []
    model.likelihood.decoder.register_forward_hook(lambda *_: runs.append(1))
    for limited in (limits.simclr(content=content)(model, guide), limits.simclr(content=content, t=0.5)(model, guide)):
        negative_objective(limited, views()).backward()
    assert len(runs) == 1  # at t = 0.5 only


def test_original_pair_stays_as_it_is_and_shares_parameters(pair):
    model, guide = pair()
    x, before = views(), copy.deepcopy((model, guide))
    limited = limits.simclr()(model, guide)
    torch.testing.assert_close(negative_objective((model, guide), x), negative_objective(before, x))
    assert {id(p) for p in limited[1].parameters()} == {id(p) for p in guide.parameters()}
    negative_objective(limited, x).backward()
    assert guide.encoder.head.weight.grad is not None


def test_prior_of_the_limited_model_is_the_storys(pair):
    model, guide = pair(content_scale=1.0)
    limited, _ = limits.simclr()(model, guide)
    with pyro.settings.context(module_local_params=True):
        draws = Predictive(limited, num_samples=3)(num_groups=2, num_views=4)
    assert draws["x"].shape == (3, 2, 4, 5)


def test_latent_of_the_limited_guide_is_the_point(pair):
    model, guide = pair()
    _, limited = limits.simclr(temperature=0.5)(model, guide)
    x = views()
    latent = limited.latent(x)
    radius = math.sqrt(2 * 0.4**2 / 0.5)
    torch.testing.assert_close(latent.mean, radius * F.normalize(guide.encoder(x)[0], dim=-1))
    assert not latent.variance.any()


@pytest.mark.parametrize("t", [-0.1, 1.5, math.nan])
def test_t_outside_its_range_is_refused(t):
    with pytest.raises(InputError, match="t is"):
        limits.simclr(t=t)


def test_unknown_content_is_refused():
    with pytest.raises(InputError, match="did you mean pairwise"):
        limits.simclr(content="pairwice")


def test_story_without_content_is_refused(pair):
    with pytest.raises(InputError, match="no site 'content'"):
        limits.simclr()(*pair(VAE))


@pytest.mark.parametrize(("shape", "message"), [((6, 1, 5), "J >= 2"), ((1, 2, 5), "N >= 2")])
def test_batches_without_contrast_are_refused(pair, shape, message):
    limited, x = limits.simclr()(*pair()), torch.randn(shape, dtype=torch.float64)
    with pytest.raises(InputError, match=message):
        negative_objective(limited, x)
    with pytest.raises(InputError, match=message):
        limits.simclr().loss(x)


def test_representations_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"give \(N, J, D\)"):
        limits.simclr().loss(torch.randn(4, 3))


def test_guides_that_run_the_decoder_are_refused():
    network = MLP([4])
    model = SimVAE(Normal(network.decoder((5,), 2)), 2)
    with pytest.raises(InputError, match="the guide SemiAmortized runs the decoder"):
        limits.simclr()(model, SemiAmortized(model, network.encoder((5,), 2)))
