"""A batch that does not fit is told from the program, with the size that would."""

import pytest
import torch
from torch import nn

from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference import memory
from pyro_simvae.inference.capture import Captured
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP

CPU, EVENT, J = torch.device("cpu"), (1, 8, 8), 2


def pair():
    network = MLP((64,))
    story = SimVAE(Normal(network.decoder(EVENT, 3)), 3)
    return LedgerELBO(story, MeanField(story, network.encoder(EVENT, 3)))


def bytes_of(num_groups):
    return memory.step_bytes(pair(), memory.views_like(EVENT, num_groups, J, CPU))


def test_largest_half_that_fits_is_named(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: bytes_of(300))
    memory.check_memory(pair(), EVENT, 300, J, CPU)
    with pytest.raises(InputError, match=r"1000 groups takes about .* GiB are free on cpu: about 250 fit \(--tr"):
        memory.check_memory(pair(), EVENT, 1000, J, CPU)


def test_not_even_one_group(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(InputError, match="not even one fits"):
        memory.check_memory(pair(), EVENT, 8, J, CPU)


def test_programs_that_depend_on_numbers_pass(monkeypatch):
    class Branching(SimVAE):
        def latent(self, content):
            return super().latent(content if content.mean() > 0 else -content)

    elbo = pair()
    elbo.model.__class__ = Branching
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    memory.check_memory(elbo, EVENT, 8, J, CPU)


def test_memory_of_a_step_is_what_it_takes():
    """Against torch's own count of a step's allocations."""
    elbo, x = pair(), torch.rand(2000, J, *EVENT)
    captured = Captured(elbo, {"x": x})
    with torch.profiler.profile(profile_memory=True) as profile:
        captured({"x": x})
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert captured.peak_bytes == pytest.approx(most, rel=0.02)


def test_want_of_memory_is_explained():
    message = "a step on 64 groups takes more memory than there is: try 32"
    with pytest.raises(InputError, match=message), memory.explained(64):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="mat1"), memory.explained(64):
        nn.Linear(2, 3)(torch.ones(1, 3))


def test_fit_refuses_a_batch_beyond_memory(fit_images, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**12)
    with pytest.raises(InputError, match=r"GiB are free on cpu: .* \(--training\.num_groups\)"):
        fit_images("large", {"epochs": 1})
