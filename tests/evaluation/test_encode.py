"""What a run makes of images: the same in Python and from the command, whatever the story and the guide."""

import numpy as np
import pytest
import torch

import pyro_simvae
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.encode import encoding
from pyro_simvae.guides import Consistent, Flow, FullCovariance, MeanField, SemiAmortized
from pyro_simvae.likelihoods import Normal
from pyro_simvae.limits import LIMITS
from pyro_simvae.models import VAE, HeavyTails, Hierarchical, Mixture, PrivateStyle, SimVAE
from pyro_simvae.networks import MLP

N, P, D = 5, 6, 3


def pair(model=SimVAE, guide=MeanField, **options):
    torch.manual_seed(0)
    story = model(Normal(MLP([4]).decoder((P,), D)), D, **options)
    return story, guide(story, MLP([7]).encoder((P,), D))


@pytest.mark.parametrize("guide", [MeanField, FullCovariance, Flow, SemiAmortized, Consistent])
def test_guides(guide):
    x = torch.randn(N, P)
    found = encoding(pair(guide=guide)[1], x)
    assert found.z.shape == found.z_scale.shape == found.content.shape == (N, D)
    assert found.features.shape == (N, 7)
    assert (found.z_scale > 0).all()
    if guide is not Flow:  # whose mean is that of draws
        alone = encoding(pair(guide=guide)[1], x[1:2])
        torch.testing.assert_close(alone.z, found.z[1:2])


@pytest.mark.parametrize(
    ("model", "options", "content_dim"),
    [
        (VAE, {}, None),
        (SimVAE, {"content_scale": float("inf")}, D),
        (HeavyTails, {}, D),
        (Hierarchical, {"num_classes": 4}, D),
        (PrivateStyle, {"content_dim": 2}, 2),
        (Mixture, {"num_clusters": 4}, None),
    ],
)
def test_stories(model, options, content_dim):
    _, guide = pair(model, **options)
    found = encoding(guide, torch.randn(N, P))
    assert found.z.shape == (N, D)
    assert (None if found.content is None else found.content.shape[1]) == content_dim


@pytest.mark.parametrize("name", ["simclr", "vicreg", "byol"])
def test_limits(name):
    x = torch.randn(N, P)
    _, guide = LIMITS[name]()(*pair())
    found = encoding(guide, x)
    torch.testing.assert_close(found.z, guide.latent(x[:, None]).mean.squeeze(1))
    assert (found.z_scale == 0).all()
    assert found.features.shape == (N, 7)


def test_closed_form_content_of_one_view():
    _, guide = pair(content_scale=2.0, style_scale=0.5)
    x = torch.randn(N, P)
    loc, scale = guide.encoder(x)
    found = encoding(guide, x)
    torch.testing.assert_close((found.z, found.z_scale), (loc, scale))
    torch.testing.assert_close(found.content, loc * 4 / (4 + 0.25))


def test_command_and_python_agree(fit_images):
    folder = fit_images(guide={"class_path": "mean_field", "init_args": {"projection": [6]}})
    run = pyro_simvae.open_run(str(folder))
    test = run.experiment.splits.test
    path = pyro_simvae.encode(str(folder))
    assert path == folder / "encoded" / "test.npz"
    arrays = np.load(path)
    assert set(arrays) == {"z", "z_scale", "content", "features", "labels"}
    found = run.encode(test.images(torch.arange(len(test))))
    for name, value in found._asdict().items():
        np.testing.assert_allclose(arrays[name], value.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(arrays["labels"], test.labels)
    np.testing.assert_allclose(run.encode(test.images(torch.tensor([2]))).z, arrays["z"][2:3], rtol=1e-5, atol=1e-6)


def test_other_data(fit_images, images, tmp_path):
    folder = str(fit_images())
    with pytest.raises(InputError, match="of other data go"):
        pyro_simvae.encode(folder, data=f"arrays:{images}")
    path = pyro_simvae.encode(folder, data=f"arrays:{images}", split="train", out=str(tmp_path / "new" / "other.npz"))
    assert len(np.load(path)["z"]) == len(np.load(path)["labels"])
    with pytest.raises(InputError, match="exists: choose another --out"):
        pyro_simvae.encode(folder, out=str(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "a.npy"}, "is no .npz file"),
        ({"split": "tset"}, "unknown split 'tset': did you mean test"),
        ({"data": "digits", "out": "b.npz"}, "those of the run"),
    ],
)
def test_bad_input(fit_images, options, said, tmp_path, monkeypatch):
    folder = fit_images()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        pyro_simvae.encode(str(folder), **options)
    assert not (tmp_path / "b.npz").exists()


def test_data_that_has_changed_since_the_fit(fit_images, images):
    folder = fit_images()
    arrays = dict(np.load(images))
    np.savez(images, images=arrays["images"][:50], labels=arrays["labels"][:50])
    with pytest.raises(InputError, match=r"the data has changed since .* items \[43, 5\] then and"):
        pyro_simvae.open_run(folder)
    with pytest.raises(InputError, match="the data has changed"):
        pyro_simvae.open_run(folder, "last")
    with pytest.raises(InputError, match="the data has changed"):
        fit_images(resume=True, training={"epochs": 3})
    np.savez(images, images=arrays["images"][:, 1:], labels=arrays["labels"])
    with pytest.raises(InputError, match=r"event shape \[1, 6, 6\] then and \[1, 5, 6\] now"):
        pyro_simvae.open_run(folder)


def test_images_of_another_shape(fit_images):
    run = pyro_simvae.open_run(fit_images())
    with pytest.raises(InputError, match=r"the images are \(2, 8, 8\): give \(n, 1, 6, 6\)"):
        run.encode(torch.rand(2, 8, 8))


def test_paired_data(tmp_path):
    parts = {"data": "paired_digits", "model": "multimodal", "network": "mlp", "latent_dim": 3}
    folder = pyro_simvae.fit(**parts, training={"epochs": 1}, out=str(tmp_path / "run"))
    arrays = np.load(pyro_simvae.encode(str(folder)))
    assert set(arrays) == {f"{name}_{part}" for name in ("image", "text") for part in ("z", "z_scale")} | {"labels"}
    assert len({len(arrays[name]) for name in arrays}) == 1
    with pytest.raises(InputError, match="paired data: encode it by the command"):
        pyro_simvae.open_run(folder).encode(torch.zeros(1, 1, 8, 8))
