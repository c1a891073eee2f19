"""Likelihoods p(x | z): a decoder, and the family its output parametrizes. All are normalized densities of x."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_simvae.distributions import Decoded
from pyro_simvae.errors import InputError
from pyro_simvae.modalities import Modalities, run_on


class Decoder(Protocol):
    """A network from latents `(*batch, D)` to the parameters of a view, `(*batch, *event_shape)`."""

    event_shape: torch.Size

    def __call__(self, z: Tensor) -> Tensor: ...


class Likelihood(nn.Module, ABC):
    """p(x | z). Calling it states the distribution; the decoder runs when that distribution is first used.

    Args:
        decoder: from `(*batch, D)` to `(*batch, *event_shape)`, any real numbers.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, rows: Tensor | None = None) -> Decoded:
        """p(x | z) of views, decoded when it is first used.

        Args:
            z: `(N, J, D)`.
            rows: which groups are decoded, `(N,)` bool; the others' views are missing, and must be masked.

        Returns:
            Batch shape `(N, J)`, event shape `event_shape`.
        """
        shape = self.decoder.event_shape

        def decode() -> dist.TorchDistribution:
            # Densities are summed over thousands of pixels: keep them in the latents' precision under autocast.
            pixels = self.pixels(run_on(self.decoder, z, rows).to(z.dtype))
            return pixels.to_event(len(shape) - len(pixels.event_shape))

        return Decoded(decode, z.shape[:-1], shape)

    @abstractmethod
    def pixels(self, decoded: Tensor) -> dist.TorchDistribution:
        """The distribution of each pixel, batch and event shape together as `decoded`."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raises InputError where `x` lies outside the support."""


class Bernoulli(Likelihood):
    """Pixels that are 0 or 1; the decoder gives logits."""

    def pixels(self, decoded: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=decoded, validate_args=False)

    def check(self, x: Tensor) -> None:
        if not ((x == 0) | (x == 1)).all():
            raise InputError(
                "the bernoulli likelihood is a density of pixels that are 0 or 1, and these are not: "
                "use views with a threshold, or --likelihood continuous_bernoulli"
            )


class ContinuousBernoulli(Likelihood):
    """Pixels in [0, 1]; the decoder gives logits.

    Source: Loaiza-Ganem and Cunningham 2019, *The continuous Bernoulli* (arXiv:1907.06845).
    """

    def pixels(self, decoded: Tensor) -> dist.TorchDistribution:
        return dist.ContinuousBernoulli(logits=decoded, validate_args=False)

    def check(self, x: Tensor) -> None:
        if not ((x >= 0) & (x <= 1)).all():
            raise InputError(
                "the continuous_bernoulli likelihood is a density on [0, 1], and some values lie outside: "
                "rescale the data, or use --likelihood normal"
            )


class Normal(Likelihood):
    """Real values with one noise scale; the decoder gives the mean.

    Args:
        decoder: gives the mean.
        scale: standard deviation of the noise, > 0, in units of a pixel; the initial value when learned.
        learn_scale: whether the scale is a parameter.
    """

    def __init__(self, decoder: Decoder, scale: float = 0.1, learn_scale: bool = False) -> None:
        super().__init__(decoder)
        if not scale > 0:
            raise InputError(f"likelihood scale is {scale}: give a positive number")
        log_scale = torch.tensor(float(scale)).log()
        self.log_scale: Tensor
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def pixels(self, decoded: Tensor) -> dist.TorchDistribution:
        return dist.Normal(decoded, self.log_scale.to(decoded.dtype).exp(), validate_args=False)

    def check(self, x: Tensor) -> None:
        if not x.isfinite().all():
            raise InputError("the data holds NaN or infinite values: clean them before fitting")


class Categorical(Likelihood):
    """Text: at each of L places one of A letters, one-hot `(..., L, A)`; the decoder gives logits."""

    def pixels(self, decoded: Tensor) -> dist.TorchDistribution:
        return dist.OneHotCategorical(logits=decoded, validate_args=False)

    def check(self, x: Tensor) -> None:
        if not (((x == 0) | (x == 1)).all() and (x.sum(-1) == 1).all()):
            raise InputError(
                "the categorical likelihood is a probability of one-hot vectors, and these are not: "
                "put one 1 in each last dimension, or use --likelihood normal"
            )


def check_support(model: nn.Module, x: Tensor | Modalities) -> None:
    """Raises InputError where views lie outside the support of the likelihoods of a story."""
    for path, module in model.named_modules():
        if isinstance(module, Likelihood):
            # Held in a dictionary, a modality's likelihood is called by the modality's name.
            module.check(x.there(path.rpartition(".")[2]) if isinstance(x, Modalities) else x)
