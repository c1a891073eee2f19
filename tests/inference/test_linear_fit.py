"""`fit` on the linear story against the best evidence there is: PPCA in closed form, L-BFGS on the exact evidence."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from pyro_simvae import commands
from pyro_simvae import experiment as exp
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.settings import Training

P, D, CONTENT, STYLE, NOISE = 8, 2, 1.0, 0.4, 0.3


def fitted(tmp_path, num_views):
    """The fitted story and its training views, from groups drawn from a linear story."""
    rng = np.random.default_rng(0)
    loading = rng.normal(size=(P, D)) * [2.0, 1.0]
    content = CONTENT * rng.normal(size=(1500, 1, D))
    z = content + STYLE * rng.normal(size=(1500, num_views, D))
    views = z @ loading.T + 0.5 + NOISE * rng.normal(size=(1500, num_views, P))
    np.savez(tmp_path / "views.npz", views=views.astype(np.float32))
    folder = commands.fit(
        data=f"arrays:{tmp_path / 'views.npz'}",
        model="linear",
        network="linear",
        likelihood={"class_path": "normal", "init_args": {"scale": 1.0, "learn_scale": True}},
        guide="exact",
        latent_dim=D,
        training=Training(epochs=100, num_views=num_views, learning_rate=5e-2, schedule="cosine"),
        out=str(tmp_path / "run"),
    )
    experiment = exp.build(exp.read_run(folder))
    experiment.pair.load_state_dict(load_checkpoint(folder / "checkpoints" / "last.ckpt")["weights"])
    train = experiment.splits.train
    (batch,) = train.batches(torch.arange(len(train)), len(train), num_views)
    return experiment.story.double(), batch.images.double()


def angles(story, subspace):
    weight = story.likelihood.decoder.linear.weight.detach().numpy()
    return np.rad2deg(subspace_angles(weight, subspace))


def test_one_view_reaches_probabilistic_pca(tmp_path):
    story, x = fitted(tmp_path, 1)
    x = x[:, 0].numpy()
    covariance = np.cov(x.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[D:].mean()
    # Tipping and Bishop 1999, equation 3 at its maximum: C has eigenvalues λ_1..λ_D, σ², ..., σ².
    log_det = np.log(values[:D]).sum() + (P - D) * math.log(noise)
    optimum = -0.5 * (P * math.log(2 * math.pi) + log_det + P)
    evidence = story.evidence(torch.from_numpy(x)[:, None]).mean().item()
    assert evidence <= optimum + 1e-6
    assert evidence == pytest.approx(optimum, rel=5e-3)
    assert angles(story, vectors[:, :D]).max() < 5
    assert story.likelihood.log_scale.exp().item() == pytest.approx(math.sqrt(noise), rel=0.05)


def test_two_views_reach_the_optimum_of_the_exact_evidence(tmp_path):
    story, x = fitted(tmp_path, 2)
    fit_evidence = story.evidence(x).mean().item()
    fit_weight = story.likelihood.decoder.linear.weight.detach().clone()

    parameters = [p for p in story.parameters() if p.requires_grad]
    with torch.no_grad():  # a start of its own, not the fit's
        for parameter in parameters:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    optimizer = torch.optim.LBFGS(parameters, max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = -story.evidence(x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimum = story.evidence(x).mean().item()
    assert fit_evidence <= optimum + 1e-6
    assert fit_evidence == pytest.approx(optimum, rel=5e-3)
    assert angles(story, fit_weight.numpy()).max() < 5
