"""What users run today, on our networks: an epoch of pythae's VAE trainer, and of lightly's SimCLR tutorial."""

import contextlib
import io
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from lightly.transforms.multi_view_transform import MultiViewTransform
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from pyro_simvae.networks import Decoder, Encoder

Epoch = Callable[[], float]
"""Trains for an epoch. Returns its seconds."""

MNIST_PAPER = v2.Compose(
    [
        v2.RandomResizedCrop(28, scale=(0.4, 1.0), ratio=(0.75, 1.3)),
        v2.RandomVerticalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Lambda(lambda x: (x > 0.5).float()),
    ]
)
"""Our preset `mnist_paper`, image by image. Takes a PIL image or a uint8 tensor (1, 28, 28)."""

TWO_MNIST_PAPER = MultiViewTransform([MNIST_PAPER, MNIST_PAPER])

TWO_CIFAR10 = SimCLRTransform(input_size=32, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0, normalize=None)
"""Our preset `cifar10`: jitter 0.4, 0.4, 0.4, 0.1 with probability 0.8, grey with 0.2."""


# -- pythae ----------------------------------------------------------------------------------------------------------


class PythaeEncoder(BaseEncoder):
    """Our encoder's layers, with the log-variance that pythae asks for."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.layers = nn.Sequential(encoder.features, encoder.head)

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_covariance = self.layers(x).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=log_covariance)


class PythaeDecoder(BaseDecoder):
    """Our decoder, with the probabilities that pythae asks for."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.decoder(z).sigmoid())


class Augmented(BaseDataset):
    """pythae's data set, its images `(M, C, H, W)` uint8 transformed as they are asked for."""

    def __init__(self, images: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.data = images
        self.labels = torch.zeros(len(images))
        self.transform = transform

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=self.transform(self.data[index]), labels=self.labels[index])


class EpochClock(TrainingCallback):
    """Seconds between the beginning and the end of an epoch."""

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        self.seconds = time.perf_counter() - self.start


def pythae_vae(
    encoder: Encoder,
    decoder: Decoder,
    train: Tensor,
    valid: Tensor,
    batch_size: int,
    learning_rate: float,
    folder: Path,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Epoch:
    """An epoch of `BaseTrainer` on a VAE, without its output; what follows the last epoch is not timed.

    Args:
        train, valid: `(M, C, H, W)`, uint8.
        transform: of each image each time; without it the images are thresholded once.
    """
    plain = [BaseDataset((images > 127).float(), torch.zeros(len(images))) for images in (train, valid)]
    data = plain if transform is None else [Augmented(images, transform) for images in (train, valid)]
    settings = VAEConfig(input_dim=tuple(train.shape[1:]), latent_dim=encoder.latent_dim, reconstruction_loss="bce")
    model = VAE(settings, PythaeEncoder(encoder), PythaeDecoder(decoder))
    config = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=1,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        no_cuda=True,
    )
    logging.getLogger("pythae").setLevel(logging.ERROR)
    logging.getLogger(BaseTrainer.__module__).setLevel(logging.ERROR)

    def epoch() -> float:
        clock = EpochClock()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            BaseTrainer(model, *data, config, [clock]).train()
        return clock.seconds

    return epoch


# -- lightly ---------------------------------------------------------------------------------------------------------


class Pictures(Dataset):
    """PIL images and labels, as torchvision's data sets give them."""

    def __init__(self, images: Tensor, transform: Callable[[object], list[Tensor]]) -> None:
        self.images = images
        self.transform = transform
        self.to_pil = v2.ToPILImage()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(self.to_pil(self.images[index])), 0


def lightly_simclr(
    encoder: Encoder,
    train: Tensor,
    batch_size: int,
    learning_rate: float,
    temperature: float,
    transform: Callable[[object], list[Tensor]],
) -> Epoch:
    """An epoch of https://docs.lightly.ai/self-supervised-learning/examples/simclr.html, two workers.

    Args:
        train: `(M, C, H, W)`, uint8.
        transform: a PIL image to its two views.
    """
    loader = DataLoader(
        Pictures(train, transform), batch_size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    criterion = NTXentLoss(temperature=temperature)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)
    represent = partial(_loc, encoder)

    def epoch() -> float:
        start, total = time.perf_counter(), 0.0
        for (x0, x1), _ in loader:
            loss = criterion(represent(x0), represent(x1))
            total += loss.detach()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        float(total)
        return time.perf_counter() - start

    return epoch


def _loc(encoder: Encoder, x: Tensor) -> Tensor:
    return encoder(x)[0]
