"""What tests share: a tiny data set in a file, and fits of it."""

import numpy as np
import pytest

from pyro_simvae import commands
from pyro_simvae.inference.settings import Training


@pytest.fixture
def images(tmp_path):
    """An .npz of 60 labelled images, 1 x 6 x 6, three bright corners to tell apart."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    x = generator.integers(0, 60, (60, 6, 6), dtype=np.uint8)
    for label, (row, column) in enumerate([(0, 0), (0, 3), (3, 0)]):
        x[labels == label, row : row + 3, column : column + 3] += 180
    path = tmp_path / "images.npz"
    np.savez(path, images=x, labels=labels)
    return path


@pytest.fixture
def fit_images(images, tmp_path):
    """fit with small settings; the keywords are fit's own, those of `Training` in a dictionary."""

    def fit(out="run", training=None, **options):
        defaults = {
            "data": f"arrays:{images}",
            "network": {"class_path": "mlp", "init_args": {"hidden": [8]}},
            "latent_dim": 3,
        }
        settings = Training(**({"epochs": 2, "num_groups": 8} | (training or {})))
        return commands.fit(**(defaults | options), training=settings, out=str(tmp_path / out))

    return fit
