"""Content guides: which story takes which, and what each promises."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule, PyroParam
from torch.distributions import constraints
from torch.nn import functional as F

from pyro_simvae import conjugate, limits
from pyro_simvae.distributions import Gaussian
from pyro_simvae.errors import InputError
from pyro_simvae.guides import AmortizedContent, ConjugateContent, MeanField, PointContent
from pyro_simvae.guides.conjugate import why_not_conjugate
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Normal
from pyro_simvae.models import VAE, PrivateStyle, SimVAE
from pyro_simvae.networks import MLP

P, D = 5, 3


class HeavyTails(PyroModule):
    """A copy of SimVAE's story whose author changed z and left the attributes behind."""

    def __init__(self, likelihood, latent_dim):
        super().__init__()
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.content_scale, self.style_scale = 1.0, 0.4

    def forward(self, x=None, num_groups=1, num_views=2):
        if x is not None:
            num_groups, num_views = x.shape[:2]
        with pyro.plate("groups", num_groups, dim=-2):
            content = pyro.sample("content", dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1))
            with pyro.plate("views", num_views, dim=-1):
                z = pyro.sample("z", dist.StudentT(4.0, content, self.style_scale).to_event(1))
                return pyro.sample("x", self.likelihood(z), obs=x)


def story(cls, **arguments):
    return cls(Normal(MLP([4]).decoder((P,), D)), D, **arguments)


def guide(model, **arguments):
    return MeanField(model, MLP([4]).encoder((P,), D), **arguments)


def test_automatic_choice_follows_the_program_not_its_attributes():
    assert isinstance(guide(story(SimVAE)).content, ConjugateContent)
    assert isinstance(guide(story(SimVAE, learn_style_scale="dimension")).content, ConjugateContent)
    assert isinstance(guide(story(SimVAE, content_scale=float("inf"))).content, ConjugateContent)
    assert isinstance(guide(story(HeavyTails)).content, AmortizedContent)
    assert guide(story(VAE)).content is None


def test_conjugate_content_is_refused_where_it_is_not_exact():
    model = story(HeavyTails)
    with pytest.raises(InputError, match=r"use --guide\.content amortized"):
        guide(model, content="conjugate")
    assert "z is not Normal" in why_not_conjugate(model)
    del model.style_scale
    assert "no attribute style_scale" in why_not_conjugate(model)


def test_content_prior_of_another_scale_is_not_conjugate():
    model = story(SimVAE)
    object.__setattr__(model, "content", lambda num_views: dist.Normal(torch.zeros(D), 3.0).to_event(1))
    assert "content is not Normal" in why_not_conjugate(model)


class LearnedMean(SimVAE):
    """Content around a mean that begins at zero, as an untouched edit would."""

    def __init__(self, likelihood, latent_dim):
        super().__init__(likelihood, latent_dim)
        self.content_loc = torch.nn.Parameter(torch.zeros(latent_dim))

    def content(self, num_views):
        return Gaussian(self.content_loc, self.content_scale)


class LearnedGain(SimVAE):
    """Views that see the content through a gain that begins at one."""

    def __init__(self, likelihood, latent_dim):
        super().__init__(likelihood, latent_dim)
        self.gain = torch.nn.Parameter(torch.ones(()))

    def latent(self, content):
        return Gaussian(self.gain * content, self.style_scale)


@pytest.mark.parametrize(("cls", "reason"), [(LearnedMean, "content is not Normal"), (LearnedGain, "z is not Normal")])
def test_a_story_that_may_leave_the_closed_form_is_not_conjugate(cls, reason):
    model = story(cls)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reason in why_not_conjugate(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert isinstance(guide(model).content, AmortizedContent)
    limited = LedgerELBO(*limits.simclr()(model, guide(model)))
    limited(torch.randn(6, 2, P)).objective.backward()
    own = next(p for name, p in model.named_parameters() if name in ("content_loc", "gain"))
    if cls is LearnedGain:  # a mean of all content is no part of how views predict each other on the sphere
        assert own.grad is not None


class Odd(SimVAE):
    """Parameters that cannot be moved, and one that may not be."""

    def __init__(self, likelihood, latent_dim):
        super().__init__(likelihood, latent_dim)
        self.lazy = torch.nn.LazyLinear(2)
        self.share = torch.nn.Parameter(torch.tensor(0.95))

    def latent(self, content):
        dist.Bernoulli(self.share, validate_args=True)
        return super().latent(content)


def test_parameters_that_cannot_be_moved():
    assert "with its parameters moved" in why_not_conjugate(story(Odd))


def test_content_of_fewer_dimensions_is_conjugate_in_those_of_z_that_depend_on_it():
    model, z = story(PrivateStyle, content_dim=2), torch.randn(4, 3, D)
    content = guide(model).content
    assert isinstance(content, ConjugateContent)
    expected = conjugate.content_posterior(z[..., :2], model.style_scale, model.content_scale)
    torch.testing.assert_close(content(z).mean, expected.mean)
    torch.testing.assert_close(content(z).stddev, expected.stddev)


@pytest.mark.parametrize(
    ("loc", "scale"), [([0.0, 0.0, 1.0], [1.0, 1.0, 1.0]), ([0.0, 0.1, 0.0], [1.0] * 3), ([0.0] * 3, [1.0, 1.1, 1.0])]
)
def test_a_story_that_is_moved_in_any_dimension_is_not_conjugate(loc, scale):
    model = story(PrivateStyle, content_dim=2)
    plain = model.latent(torch.zeros(2))
    object.__setattr__(
        model,
        "latent",
        lambda content: dist.Normal(
            torch.nn.functional.pad(content, (0, 1)) + torch.tensor(loc), plain.stddev * torch.tensor(scale)
        ).to_event(1),
    )
    assert "z is not Normal" in why_not_conjugate(model)
    assert isinstance(guide(model).content, AmortizedContent)


def test_scale_of_the_private_dimensions_is_free():
    model = story(PrivateStyle, content_dim=2)
    plain = model.latent(torch.zeros(2)).stddev * torch.tensor([1.0, 1.0, 5.0])
    loc = torch.nn.functional.pad
    object.__setattr__(model, "latent", lambda content: dist.Normal(loc(content, (0, 1)), plain).to_event(1))
    assert why_not_conjugate(model) is None


def test_content_guides_of_fewer_dimensions():
    model, z = story(PrivateStyle, content_dim=2), torch.randn(4, 3, D)
    amortized, point = (guide(model, content=name).content for name in ("amortized", "point"))
    assert amortized(z).event_shape == (2,)
    torch.testing.assert_close(point(z).sample(), z[..., :2].mean(1, keepdim=True))


def test_unknown_content_guide():
    with pytest.raises(InputError, match="did you mean conjugate"):
        guide(story(SimVAE), content="conjugat")


@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_amortized_content_ignores_the_order_of_views(num_views):
    content, z = AmortizedContent(D).double(), torch.randn(4, num_views, D, dtype=torch.float64)
    posterior, permuted = content(z), content(z[:, torch.randperm(num_views)])
    assert (posterior.batch_shape, posterior.event_shape) == ((4, 1), (D,))
    torch.testing.assert_close(posterior.mean, permuted.mean)
    torch.testing.assert_close(posterior.variance, permuted.variance)


def test_amortized_content_learns_the_conjugate_posterior():
    torch.manual_seed(0)
    model, z = story(SimVAE), torch.randn(512, 2, D)
    z = torch.randn(512, 1, D) + 0.4 * z
    exact, content = ConjugateContent(model)(z), AmortizedContent(D, hidden=32)
    optimizer = torch.optim.Adam(content.parameters(), 1e-2)

    def divergence():
        return torch.distributions.kl_divergence(content(z), exact).mean()

    before = divergence().item()
    for _ in range(200):
        optimizer.zero_grad()
        divergence().backward()
        optimizer.step()
    assert divergence().item() < 0.02 < before


def test_point_content_is_the_mean_of_the_views():
    z = torch.randn(4, 3, D)
    point = PointContent()(z)
    torch.testing.assert_close(point.sample(), z.mean(1, keepdim=True))
    elbo = LedgerELBO(model := story(SimVAE), guide(model, content="point"))
    assert elbo(torch.randn(4, 3, P)).terms["log_q/content"] == 0


def test_conjugate_content_follows_a_learned_scale_and_owns_no_parameter():
    model = story(SimVAE, learn_style_scale="shared")
    content = ConjugateContent(model)
    assert not list(content.parameters())
    z = torch.randn(4, 2, D)
    before = content(z).variance
    with torch.no_grad():
        model.style_scale_unconstrained += 1.0
    assert (content(z).variance > before).all()


def test_making_a_guide_leaves_the_parameter_store_and_the_generators_alone():
    class Learned(HeavyTails):
        def __init__(self, likelihood, latent_dim):
            super().__init__(likelihood, latent_dim)
            del self.style_scale
            self.style_scale = PyroParam(torch.tensor(0.4), constraints.positive)

    pyro.clear_param_store()
    model = story(Learned)
    state = torch.get_rng_state()
    encoder = MLP([4]).encoder((P,), D)
    torch.set_rng_state(state)
    MeanField(model, encoder, content="point")
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store().keys())


class Entangled(PrivateStyle):
    """The scale of the private dimensions depends on the content."""

    def latent(self, content):
        loc = F.pad(content, self.private)
        scale = torch.cat([self.style_scale.expand_as(content), content.abs()[..., :1] + 0.1], -1)
        return Gaussian(*torch.broadcast_tensors(loc, scale))


def test_private_dimensions_must_not_depend_on_content():
    likelihood = Normal(MLP([4]).decoder((5,), 2))
    assert why_not_conjugate(PrivateStyle(likelihood, 2, content_dim=1)) is None
    assert "private dimensions depends on the content" in why_not_conjugate(Entangled(likelihood, 2, content_dim=1))
