"""SimSiam and BYOL against lightly's cosine and against the equations of the papers, value and gradient."""

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from pyro import distributions as dist
from torch.nn import functional as F

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.limits.prediction import Predictor
from pyro_simvae.models import SimVAE


class HeavyTailed(SimVAE):
    def latent(self, content):
        return dist.StudentT(4.0, content, self.style_scale, validate_args=False).to_event(1)


SIZES = [(1, 3, 2), (7, 2, 5), (16, 16, 32)]


def simsiam_with_lightly(limit, z):
    """Chen and He 2021, equation 4."""
    prediction = limit.predictor(F.normalize(z, dim=-1))
    cosine = NegativeCosineSimilarity()
    return (cosine(prediction[:, 0], z[:, 1].detach()) + cosine(prediction[:, 1], z[:, 0].detach())) / 2


def byol(limit, z, target):
    """Grill et al. 2020, equation 2, averaged over pairs of views."""
    prediction = limit.predictor(F.normalize(z, dim=-1))
    num_views, losses = z.shape[1], []
    for j in range(num_views):
        for other in range(num_views):
            if j != other:
                inner = (prediction[:, j] * target[:, other]).sum(-1)
                losses.append(2 - 2 * inner / (prediction[:, j].norm(dim=-1) * target[:, other].norm(dim=-1)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("num_groups", "dim", "hidden"), SIZES)
@pytest.mark.parametrize("collapsed", [False, True])
def test_simsiam_is_lightlys(assert_same, representations, num_groups, dim, hidden, collapsed):
    z = representations(num_groups, 2, dim, collapsed)
    limit = limits.simsiam(hidden)
    loss = limit.loss(z).total
    assert_same(loss, simsiam_with_lightly(limit, z), z)
    expected = torch.autograd.grad(simsiam_with_lightly(limit, z), limit.predictor.parameters())
    found = torch.autograd.grad(limit.loss(z).total, limit.predictor.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("num_groups", "dim", "hidden"), SIZES)
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("collapsed", [False, True])
def test_byol_is_equation_2(assert_same, representations, num_groups, dim, hidden, num_views, collapsed):
    z, target = (representations(num_groups, num_views, dim, collapsed) for _ in range(2))
    limit = limits.byol(hidden)
    loss = limit.loss(z, target=target).total
    assert_same(loss, byol(limit, z, target.detach()), z)


def test_simsiam_of_three_views_averages_over_pairs(assert_same, representations):
    z = representations(5, 3, 4)
    limit = limits.simsiam(8)
    loss = limit.loss(z).total
    pairs = [z[:, [0, 1]], z[:, [0, 2]], z[:, [1, 2]]]
    assert_same(loss, sum(simsiam_with_lightly(limit, pair) for pair in pairs) / 3, z)


def test_the_stop_gradient_stops(representations):
    """With the prediction cut off from the encoder, nothing of the loss reaches it."""
    z = representations(4, 2, 3)
    limit = limits.simsiam(8)
    limit.loss(z)
    limit.predictor.register_forward_pre_hook(lambda module, inputs: (inputs[0].detach(),))
    loss = limit.loss(z).total
    assert loss.requires_grad  # by the predictor
    assert torch.autograd.grad(loss, z, allow_unused=True) == (None,)


def test_collapse_is_the_minimum_and_a_stationary_point(representations):
    """Nothing in the loss keeps representations apart: where they are one, and predicted, it has no slope."""
    z = torch.ones(4, 2, 3, dtype=torch.float64).requires_grad_()
    limit = limits.simsiam(8)
    limit.loss(z)
    with torch.no_grad():
        limit.predictor.layers[-1].weight.zero_()
        limit.predictor.layers[-1].bias.fill_(1.0)
    loss = limit.loss(z).total
    torch.testing.assert_close(loss.item(), -1.0)
    torch.testing.assert_close(torch.autograd.grad(loss, z)[0], torch.zeros_like(z))


def test_byols_target_gets_no_gradient(representations):
    z, target = representations(4, 2, 3), representations(4, 2, 3)
    assert torch.autograd.grad(limits.byol(8).loss(z, target=target).total, target, allow_unused=True) == (None,)


def test_predictions_lie_on_the_sphere_and_ignore_length():
    predictor, z = Predictor(4, 64).double(), torch.randn(3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(predictor(z).norm(dim=-1), torch.ones(3, 2, dtype=torch.float64))
    torch.testing.assert_close(predictor(10 * z), predictor(z), rtol=1e-3, atol=1e-3)


def test_the_agreement_is_the_storys_own(pair):
    """Under a Student-t style, the predicted content scores another view by that density."""
    model, guide = limits.simsiam(8)(*pair(HeavyTailed))
    unit, x = model.latents.unit, torch.randn(4, 2, 5, dtype=torch.float64)
    z = F.normalize(guide.guide.latent(x).mean, dim=-1)
    story = HeavyTailed.latent(model.story, unit * model.limit.predictor(z).flip(1))
    expected = story.log_prob(unit * z).sum() + 8 * 4 * torch.log(unit)
    torch.testing.assert_close(LedgerELBO(model, guide)(x).objective, expected)


@pytest.mark.parametrize("limit", [limits.simsiam, limits.byol])
def test_bad_arguments(limit, representations):
    with pytest.raises(InputError, match="hidden is 0: give a whole number"):
        limit(hidden=0)
    made = limits.simsiam(8)
    made.loss(representations(4, 2, 3))
    with pytest.raises(InputError, match="this SimSiam was built for D = 3 and meets D = 4"):
        made.loss(representations(4, 2, 4))


def test_momentum_is_a_fraction():
    with pytest.raises(InputError, match=r"momentum is -0\.1"):
        limits.byol(momentum=-0.1)
