"""A captured step is the program's own, to the bit, and says why where it cannot be."""

import pyro
import pytest
import torch
from torch import nn

from pyro_simvae import limits
from pyro_simvae.errors import InputError
from pyro_simvae.guides import MeanField
from pyro_simvae.inference.capture import Captured, inputs_of, peak_bytes, signature
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Bernoulli, Normal
from pyro_simvae.modalities import Modalities
from pyro_simvae.models import Mixture, SimVAE
from pyro_simvae.networks import MLP, ResNet18

N, J, D = 8, 2, 3
EVENT = (1, 4, 4)
ARGUMENTS = {"npid": {"num_items": N}, "softmax": {"num_classes": 3}}
OBSERVED = {"labels": torch.arange(N) % 3, "index": torch.arange(N)}


def views():
    return (torch.rand(N, J, *EVENT, generator=torch.Generator().manual_seed(1)) > 0.5).float()


def pair(model=SimVAE, network=None, **options):
    torch.manual_seed(0)
    network = network or MLP((16,))
    story = model(Bernoulli(network.decoder(EVENT, D)), D, **options)
    return story, MeanField(story, network.encoder(EVENT, D))


def limit_pair(name, t=1.0):
    return limits.LIMITS[name](**ARGUMENTS.get(name, {}), t=t)(*pair())


def eager(elbo, seed, **given):
    torch.manual_seed(seed)
    elbo.zero_grad()
    ledger = elbo(views(), **given)
    (ledger.objective / -N).backward()
    return outcome(elbo, ledger)


def replayed(elbo, captured, seed, inputs):
    torch.manual_seed(seed)
    elbo.zero_grad()
    return outcome(elbo, captured(inputs))


def outcome(elbo, ledger):
    gradients = {name: p.grad for name, p in elbo.named_parameters() if p.grad is not None}
    state = {name: value.clone() for name, value in elbo.state_dict().items()}
    return {"objective": ledger.objective.detach(), **ledger.terms, **ledger.limit}, gradients, state


def check_replay(elbo, observed=None):
    """Two steps in a row, with the state of the pair, such as a queue, going on from the first to the second."""
    observed = observed or {}
    inputs = inputs_of(views(), observed)
    before = {name: value.clone() for name, value in elbo.state_dict().items()}
    captured = Captured(elbo, inputs)
    unchanged = {name: value.clone() for name, value in elbo.state_dict().items()}
    torch.testing.assert_close(unchanged, before, rtol=0, atol=0)
    expected = [eager(elbo, seed, **observed) for seed in (5, 6)]
    elbo.load_state_dict(before)
    found = [replayed(elbo, captured, seed, inputs) for seed in (5, 6)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    return captured


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"content_scale": float("inf")},
        {"learn_style_scale": "dimension"},
    ],
)
def test_replay_is_the_program_to_the_bit(options):
    check_replay(LedgerELBO(*pair(**options)))


def test_replay_of_several_particles():
    check_replay(LedgerELBO(*pair(), num_particles=4))


def test_replay_of_a_summed_out_cluster():
    check_replay(LedgerELBO(*pair(Mixture, num_clusters=3)))


def test_replay_moves_running_statistics():
    elbo = LedgerELBO(*pair(network=ResNet18()))
    before = {name: value.clone() for name, value in elbo.named_buffers() if "running" in name}
    check_replay(elbo)
    assert all((value != before[name]).any() for name, value in elbo.named_buffers() if name in before)


@pytest.mark.parametrize("t", [1.0, 0.5])
@pytest.mark.parametrize("name", sorted(limits.LIMITS.keys() - {"deepcluster"}))
def test_replay_of_limits(name, t):
    elbo = LedgerELBO(*limit_pair(name, t))
    check_replay(elbo, {name: OBSERVED[name] for name in elbo.observes})


def test_a_limit_that_looks_at_numbers_says_where():
    elbo = LedgerELBO(*limit_pair("deepcluster"))
    where = r"depends on numbers at or after the site 'x' \(\w+\.py, line \d+: .+\)"
    with pytest.raises(InputError, match=where):
        Captured(elbo, inputs_of(views(), {}))


class Branching(SimVAE):
    def latent(self, content):
        if content.mean() > 0:  # which a graph of operations cannot hold
            return super().latent(content)
        return super().latent(-content)


class Replacing(SimVAE):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("steps", torch.zeros(()))

    def latent(self, content):
        self.steps = self.steps + 1
        return super().latent(content)


class Odd(SimVAE):
    """Parameters whose gradients are transposed, spread out, shared by two, or constant."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.transposed = nn.Parameter(torch.arange(D * 2.0).reshape(2, D) / 10)
        self.spread, self.constant = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))
        self.first, self.second = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))

    def latent(self, content):
        pyro.factor("more", self.constant.sum())
        moved = content + (self.transposed.t() * torch.arange(2.0)).sum(1) + self.spread.sum() / 10
        return super().latent(moved + (self.first + self.second) / 10)


def test_optimizers_may_work_on_the_gradients_in_place():
    """Clipping scales gradients where they lie, and fused AdamW reads them in their parameters' order."""
    weights = []
    for captures in (False, True):
        elbo = LedgerELBO(*pair(Odd))
        optimizer = torch.optim.AdamW(elbo.parameters(), lr=0.1, fused=True)
        captured = Captured(elbo, {"x": views()}) if captures else None
        for seed in range(3):
            if captured is None:
                eager(elbo, seed)
            else:
                replayed(elbo, captured, seed, {"x": views()})
            nn.utils.clip_grad_norm_(elbo.parameters(), 1.0)
            optimizer.step()
        weights.append(elbo.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_branch_on_numbers_names_its_site_and_line():
    with pytest.raises(InputError, match=r"the site 'content' \(test_capture\.py, line \d+: if content\.mean"):
        Captured(LedgerELBO(*pair(Branching)), inputs_of(views(), {}))


def test_new_tensor_for_a_buffer_is_refused():
    with pytest.raises(InputError, match=r"model\.steps a new tensor at each step: write into the old one with copy_"):
        Captured(LedgerELBO(*pair(Replacing)), inputs_of(views(), {}))


def test_moving_kl_weight_is_an_input():
    elbo = LedgerELBO(*pair())
    captured = Captured(elbo, {"x": views(), "kl_weight": torch.tensor(0.1)}, likelihood_weight=2.0)
    for weight in (0.25, 0.75):
        expected = eager(elbo, 3, likelihood_weight=2.0, kl_weight=weight)
        found = replayed(elbo, captured, 3, {"x": views(), "kl_weight": torch.tensor(weight)})
        torch.testing.assert_close(found, expected)


def test_autocast_is_captured():
    elbo = LedgerELBO(*pair())
    captured = Captured(elbo, {"x": views()}, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        expected = eager(elbo, 3)
    torch.testing.assert_close(replayed(elbo, captured, 3, {"x": views()}), expected, rtol=0, atol=0)


def test_signature_tells_shapes_types_and_names_apart():
    x = views()
    inputs = inputs_of(x, {"labels": OBSERVED["labels"]})
    assert signature(inputs) == signature(inputs_of(x.clone(), {"labels": OBSERVED["labels"] + 1}))
    assert signature(inputs) != signature(inputs_of(x, {}))
    assert signature(inputs_of(x[1:], {})) != signature(inputs_of(x, {}))
    assert signature(inputs_of(x.double(), {})) != signature(inputs_of(x, {}))


def test_missing_modalities_have_no_fixed_shapes():
    image, text = torch.rand(N, 5), torch.rand(N, 2)
    everything = inputs_of(Modalities({"image": image, "text": text}), {})
    assert list(everything) == ["x/image", "x/text"]
    present = torch.ones(N, 2, dtype=torch.bool)
    present[0, 1] = False
    assert inputs_of(Modalities({"image": image, "text": text}, present), {}) is None


def test_peak_bytes_of_a_chain_and_a_product():
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.rand(1000)  # 4,000 bytes
    chain = make_fx(lambda x: ((x + 1) * 2).sum(), tracing_mode="fake")(x)
    assert peak_bytes(chain) == 8000  # x + 1 and its double
    kept = make_fx(lambda x: [x + 1, x + 2, x + 3], tracing_mode="fake")(x)
    assert peak_bytes(kept) == 12000
    views_of_one = make_fx(lambda x: (x + 1).view(10, 100).t()[1:].sum(), tracing_mode="fake")(x)
    assert peak_bytes(views_of_one) == 4004


def test_peak_bytes_of_a_step_grow_with_the_batch():
    def bytes_of(num_groups):
        network = MLP((64,))
        story = SimVAE(Normal(network.decoder(EVENT, D)), D)
        elbo = LedgerELBO(story, MeanField(story, network.encoder(EVENT, D)))
        return Captured(elbo, {"x": torch.zeros(()).expand(num_groups, J, *EVENT)}).peak_bytes

    small, double, four_times = (bytes_of(n) for n in (1000, 2000, 4000))
    assert double - small == pytest.approx((four_times - double) / 2, rel=0.02)
    assert double - small > 1000 * J * 64 * 4  # a hidden layer alone


def test_factorizations_are_named():
    assert Captured(LedgerELBO(*pair()), {"x": views()}).factorizations == []
    assert Captured(LedgerELBO(*limit_pair("simclr")), {"x": views()}).factorizations == []  # norms are none
    assert "slogdet" in Captured(LedgerELBO(*limit_pair("logdet")), {"x": views()}).factorizations[0]
    assert "cholesky" in Captured(LedgerELBO(*limit_pair("wmse")), {"x": views()}).factorizations[0]
