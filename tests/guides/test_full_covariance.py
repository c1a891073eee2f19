"""The full-covariance guide on the linear story: it reaches the evidence where mean field stays a known gap below."""

import torch

from pyro_simvae.guides import Exact, FullCovariance, MeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.rng import isolated
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import LinearGaussian
from pyro_simvae.networks import Linear

P, D, G, S, NOISE = 6, 3, 1.3, 0.7, 0.6


def story():
    return LinearGaussian(Normal(Linear().decoder((P,), D), scale=NOISE), D, content_scale=G, style_scale=S)


def pair(guide):
    with isolated(0):
        model = story()
        return LedgerELBO(model, guide(model, Linear().encoder((P,), D))).double()


def views(model, num_groups, num_views):
    with isolated(1), torch.no_grad():
        return model(num_groups=num_groups, num_views=num_views)


def set_to_posterior(guide, model, precision, scale):
    """Loc of the exact posterior of a single view, and a scale of each dimension."""
    linear, head = model.likelihood.decoder.linear, guide.encoder.head
    with torch.no_grad():
        head.weight[:D] = torch.linalg.solve(precision, linear.weight.T) / NOISE**2
        head.weight[D:] = 0
        head.bias[:D] = -head.weight[:D] @ linear.bias
        head.bias[D:] = (scale - 1e-5).expm1().log()


def precision_of(model):
    weight = model.likelihood.decoder.linear.weight.detach()
    return torch.eye(D, dtype=torch.float64) / (G**2 + S**2) + weight.T @ weight / NOISE**2


def test_one_view_reaches_the_evidence_whatever_is_drawn():
    elbo = pair(FullCovariance)
    model, guide, precision = elbo.model, elbo.guide, precision_of(elbo.model)
    lower = torch.linalg.cholesky(torch.linalg.inv(precision))
    set_to_posterior(guide, model, precision, lower.diagonal())
    with torch.no_grad():
        unit = lower / lower.diagonal()[:, None]
        guide.off_diagonal.bias.copy_(unit[guide.below[0], guide.below[1]])
    x = views(model, 5, 1)
    exact = Exact(model).latent(x)
    torch.testing.assert_close(guide.latent(x).mean, exact.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(guide.latent(x).covariance_matrix, exact.covariance_matrix, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(elbo.log_weights(x, 7), model.evidence(x).expand(7, 5), rtol=1e-5, atol=1e-5)


def test_mean_field_stays_its_gap_below():
    elbo = pair(MeanField)
    model, precision = elbo.model, precision_of(elbo.model)
    set_to_posterior(elbo.guide, model, precision, precision.diagonal().rsqrt())
    x = views(model, 5, 1)
    gap = (precision.diagonal().log().sum() - precision.logdet()) / 2
    with isolated(2), torch.no_grad():
        losses = model.evidence(x) - elbo.log_weights(x, 20_000)
    error = losses.std() / losses.numel() ** 0.5
    assert gap > 10 * error
    assert (losses.mean() - gap).abs() < 4 * error


def test_fitted_to_two_views_it_lies_between_mean_field_and_evidence():
    values = []
    for guide in (MeanField, FullCovariance):
        elbo = pair(guide)
        x = views(elbo.model, 200, 2)
        optimizer = torch.optim.Adam(elbo.guide.parameters(), 3e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
        with isolated(2):
            for _ in range(300):
                optimizer.zero_grad()
                (-elbo(x).objective / len(x)).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                values.append(elbo.log_weights(x, 500).mean())
    mean_field, full = values
    assert mean_field + 0.05 < full < elbo.model.evidence(x).mean() - 0.05


def test_starts_as_mean_field():
    elbo, x = pair(FullCovariance), torch.randn(4, 2, P, dtype=torch.float64)
    latent, reference = elbo.guide.latent(x), MeanField(elbo.model, elbo.guide.encoder).latent(x)
    z = reference.sample()
    torch.testing.assert_close(latent.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(latent.stddev, reference.stddev)
