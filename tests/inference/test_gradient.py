"""Which steps are replayed, which are run, and why."""

import numpy as np
import pytest
import torch

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.capture import COMPILED_DRAWS_IN_ORDER, Captured
from pyro_simvae.inference.elbo import Ledger, LedgerELBO
from pyro_simvae.inference.gradient import Gradient
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import SimVAE
from pyro_simvae.networks import MLP

N, J, D, P = 6, 2, 3, 5


class Branching(SimVAE):
    def latent(self, content):
        return super().latent(content if content.mean() > 0 else -content)


class Counting(SimVAE):
    """Draws differently at each run, by a number that no tensor holds."""

    runs = 0

    def latent(self, content):
        self.runs += 1
        return super().latent(content + self.runs)


class Drawing(SimVAE):
    """Draws with NumPy, which a graph of tensor operations cannot repeat."""

    def latent(self, content):
        return super().latent(content + float(np.random.normal()))  # noqa: NPY002


def gradient(engine, model=SimVAE, **options):
    torch.manual_seed(0)
    network = MLP((8,))
    story = model(Normal(network.decoder((P,), D)), D, **options)
    elbo = LedgerELBO(story, MeanField(story, network.encoder((P,), D)))
    return Gradient(elbo, 1.0, engine, lambda: torch.autocast("cpu", enabled=False), torch.Tensor.backward)


def batch(num_groups=N, seed=0):
    return torch.randn(num_groups, J, P, generator=torch.Generator().manual_seed(seed))


def run(step, seed, num_groups=N, **options):
    step.elbo.zero_grad()
    torch.manual_seed(seed)
    ledger = step(batch(num_groups, seed), **options)
    return ledger.objective.detach().clone(), {name: p.grad for name, p in step.elbo.named_parameters()}


def trail(engine, model=SimVAE):
    """Three steps, the second on a smaller batch; and the random number that comes after them."""
    step = gradient(engine, model)
    found = [run(step, 1), run(step, 2, N - 2), run(step, 3)]
    return found, torch.rand(()), step


@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_graph_and_eager_steps_are_the_same_to_the_bit(engine):
    *expected, _ = trail("eager")
    *found, step = trail(engine)
    assert step.captured is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.skipif(not COMPILED_DRAWS_IN_ORDER, reason="this compiler draws in another order")
def test_compiled_steps_are_the_same_to_rounding():
    *expected, _ = trail("eager")
    *found, _ = trail("compile")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_compiled_steps_may_round_what_cancels():
    """The loss does not depend on the bias, whose gradient is rounding errors alone."""
    step = gradient("compile")
    step.elbo = LedgerELBO(*limits.barlow_twins()(step.elbo.model, step.elbo.guide))
    objective, gradients = run(step, 1)
    assert step.captured is not None
    bias = gradients["guide.guide.encoder.head.bias"]
    assert objective.isfinite()
    assert bias.norm() < 1e-4 * gradients["guide.guide.encoder.head.weight"].norm()


@pytest.mark.skipif(not COMPILED_DRAWS_IN_ORDER, reason="this compiler draws in another order")
def test_a_compiler_that_gets_it_wrong_is_refused(monkeypatch):
    def compile(self):
        run = self.graph.forward
        self.run = lambda *tensors: [None if each is None else 2 * each for each in run(*tensors)]

    monkeypatch.setattr(Captured, "compile", compile)
    with pytest.raises(InputError, match=r"engine compile cannot capture .* comes out otherwise compiled"):
        run(gradient("compile"), 1)


def test_which_gradients_differ():
    step = gradient("graph")
    parameters = [torch.nn.Parameter(torch.zeros(4)) for _ in range(2)]
    ledger = Ledger(torch.ones(()), {"log_p/x": torch.ones(())}, {})
    expected = [torch.full((4,), 100.0), torch.full((4,), 1e-7)]

    def differing(first, second, ledgers=(ledger, ledger), rough=False):
        parameters[0].grad, parameters[1].grad = first, second
        return step._differing(*ledgers, expected, parameters, rough)

    assert differing(*expected) == []
    assert differing(expected[0] * (1 + 1e-5), expected[1]) == []
    assert differing(expected[0], -expected[1]) == []  # rounding errors of the first
    assert differing(expected[0] * 1.01, expected[1]) == ["a gradient"]
    assert differing(expected[0], None) == ["a gradient"]
    assert differing(expected[0] * 1.4, expected[1], rough=True) == []
    assert differing(expected[0] * 1.6, expected[1], rough=True) == ["a gradient"]
    assert differing(expected[0], None, rough=True) == ["a gradient"]
    assert differing(torch.zeros(8)[::2], expected[1]) == ["a gradient"]
    other = Ledger(torch.ones(()), {"log_p/x": torch.tensor(1.01)}, {})
    assert differing(*expected, (ledger, other)) == ["log_p/x"]
    assert differing(*expected, (ledger, Ledger(torch.ones(()), {}, {}))) == ["the set of sites"]


def test_eager_engine_captures_nothing():
    assert trail("eager")[-1].captured is None


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Branching, "site 'content'"), (Counting, "log_p/z comes out otherwise"), (Drawing, "comes out otherwise")],
)
def test_what_cannot_be_captured_runs_as_it_is_or_is_refused(model, reason):
    np.random.seed(0)  # noqa: NPY002
    *expected, _ = trail("eager", model)
    np.random.seed(0)  # noqa: NPY002
    *found, step = trail("auto", model)
    assert step.captured is None
    assert reason in step.eager_because
    if model is not Counting:  # whose runs before the first step count too
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(InputError, match=rf"engine graph cannot capture this program: .*{reason}.*engine eager"):
        trail("graph", model)


def test_weight_that_moves_is_followed():
    def steps(engine):
        step = gradient(engine)
        return [run(step, seed, kl_weight=torch.tensor(weight)) for seed, weight in ((1, 0.1), (2, 0.5))]

    torch.testing.assert_close(steps("graph"), steps("eager"))
