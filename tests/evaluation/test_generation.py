"""Generation against the linear-Gaussian story's evidence, stories whose decoder is known, and the extremes."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.nn import PyroModule
from torch import nn

from pyro_simvae import limits
from pyro_simvae.data import Augmentation, Splits, Views
from pyro_simvae.data.arrays import VectorGroups
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.evaluation import bound, generation
from pyro_simvae.evaluation.bound import bound_scores, importance_bound, importance_weights, is_continuous, loc_of
from pyro_simvae.evaluation.generation import Components, frechet_score, generate, reconstruction_scores
from pyro_simvae.guides import Exact, MeanField, SphericalMeanField
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.likelihoods import Bernoulli, ContinuousBernoulli, Normal
from pyro_simvae.limits.own_densities import own_densities
from pyro_simvae.models import VAE, Instance, LinearGaussian, SimVAE, Spherical
from pyro_simvae.networks import MLP, Linear

P, D = 5, 3
SHAPE = (1, 8, 8)


class Known(nn.Module):
    """A decoder that writes its latent into the view's pixels, or always the same view."""

    def __init__(self, event_shape, view=None):
        super().__init__()
        self.event_shape = torch.Size(event_shape)
        self.view = view

    def forward(self, z):
        view = z.reshape(*z.shape[:-1], *self.event_shape)
        return view if self.view is None else self.view.expand_as(view)


class Copying(PyroModule):
    """The guide of a story whose latent is the view itself."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        with pyro.plate("groups", x.shape[0], dim=-2), pyro.plate("views", x.shape[1], dim=-1):
            pyro.sample("z", dist.Normal(x.flatten(2), self.scale).to_event(1))


def known_pair(shape=SHAPE, view=None, scale=0.5):
    return LedgerELBO(VAE(Normal(Known(shape, view)), math.prod(shape)), Copying(scale))


def network_pair(shape=SHAPE, likelihood=Normal, cls=SimVAE, content="auto", **arguments):
    torch.manual_seed(0)
    model = cls(likelihood(MLP([8]).decoder(shape, D)), D, **arguments)
    return LedgerELBO(model, MeanField(model, MLP([8]).encoder(shape, D), content))


def linear_pair(latent_dim=D, scale=0.5, exact=False, widen=0.0):
    torch.manual_seed(0)
    model = LinearGaussian(Normal(Linear().decoder((P,), latent_dim), scale=scale), latent_dim)
    if exact:
        return LedgerELBO(model, Exact(model)).double()
    guide = MeanField(model, Linear().encoder((P,), latent_dim))
    guide.encoder.head.bias.data[latent_dim:] += widen
    return LedgerELBO(model, guide).double()


def split_of(count=12, shape=SHAPE, seed=0, labels=None):
    generator = torch.Generator().manual_seed(seed)
    return MemorySplit(torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator), labels)


def splits_of(shape=SHAPE, **sizes):
    return Splits(*(split_of(sizes.get(name, 12), shape, seed) for seed, name in enumerate(Splits._fields)))


def plain(images):
    return images.float() / 255


def views_of(shape=SHAPE, **steps):
    return Views(Augmentation(**steps), shape)


class TestBound:
    def test_by_hand(self):
        scores = bound_scores(torch.tensor([[1.0, 1.0], [3.0, 1.0]]).log(), num_views=2, num_values=4, offset=0.0)
        assert scores["bound"] == pytest.approx(math.log(2) / 2)  # log 2 and log 1
        assert scores["bound_se"] == pytest.approx(math.log(2) / 2)  # a standard deviation of log 2 / √2, over √2
        assert scores["bound_view"] == pytest.approx(math.log(2) / 4)
        assert scores["bound_elbo"] == pytest.approx(math.log(3) / 4)
        assert scores["bits_per_dim"] == pytest.approx(-1 / 16)
        assert scores["ess"] == pytest.approx((0.8 + 1) / 2)  # 4² / 10 / 2 and 2² / 2 / 2

    def test_offset_is_in_bits(self):
        weights = torch.zeros(3, 5)
        assert bound_scores(weights, 2, 4, 8.0)["bits_per_dim"] == 8

    def test_extreme_weights(self):
        scores = bound_scores(torch.tensor([[-5000.0], [-9000.0]]), 1, 1, 0.0)
        assert scores["bound"] == pytest.approx(-5000 - math.log(2))
        assert scores["ess"] == pytest.approx(0.5)
        assert scores["bound_se"] == 0  # of one group: nothing is known of its spread

    def test_of_the_exact_guide_is_the_evidence(self):
        pair, x = linear_pair(exact=True), torch.randn(7, 2, P, dtype=torch.float64)
        with torch.no_grad():
            weights = importance_weights(pair, x, 16)
        evidence = pair.model.evidence(x).detach()
        torch.testing.assert_close(importance_bound(weights), evidence)
        scores = bound_scores(weights, 2, P, 0.0)
        assert scores["bound"] == pytest.approx(scores["bound_elbo"])
        assert scores["bound"] == pytest.approx(float(evidence.mean()))
        assert scores["ess"] == pytest.approx(1)
        assert scores["bits_per_dim"] == pytest.approx(-float(evidence.mean()) / (2 * P * math.log(2)))

    def test_is_above_the_elbo_and_rises_to_the_evidence(self):
        pair = linear_pair(1, scale=2.0, widen=2.0)
        x = pair.model(num_groups=3, num_views=2).detach()
        with torch.no_grad():
            weights = importance_weights(pair, x, 20_000)
        bounds = [importance_bound(part).mean() for part in weights.split(10)]
        scores = bound_scores(weights, 2, P, 0.0)
        assert scores["bound_elbo"] < torch.stack(bounds).mean() < scores["bound"]
        torch.testing.assert_close(importance_bound(weights), pair.model.evidence(x).detach(), rtol=0, atol=0.05)

    @pytest.mark.parametrize(("most", "calls"), [(10**6, 1), (70, 6), (30, 3 * 6), (1, 7 * 6)])
    def test_is_computed_in_chunks_of_groups_and_particles(self, monkeypatch, most, calls):
        pair, x, sizes = linear_pair(exact=True), torch.randn(7, 2, P, dtype=torch.float64), []
        log_weights = pair.log_weights

        def counted(part, num_particles):
            sizes.append(part.numel() * num_particles)
            return log_weights(part, num_particles)

        monkeypatch.setattr(pair, "log_weights", counted)
        monkeypatch.setattr(bound, "MOST_VALUES", most)
        with torch.no_grad():
            weights = importance_weights(pair, x, 6)
        torch.testing.assert_close(weights, pair.model.evidence(x).detach().expand(6, 7))
        assert len(sizes) == calls
        assert max(sizes) <= max(most, 2 * P)

    @pytest.mark.parametrize("limit", [limits.simclr, limits.vicreg])
    def test_under_a_limit_the_weights_are_those_of_the_narrowed_normal(self, limit):
        t, plain_pair, x = 0.3, linear_pair(), torch.randn(4, 2, P, dtype=torch.float64)
        limited = LedgerELBO(*limit(t=t)(plain_pair.model, plain_pair.guide)).eval()
        unit, geometry = limited.model.latents.unit, limited.model.limit.geometry

        class Narrowed(PyroModule):
            def __init__(self, guide):
                super().__init__()
                self.guide = guide

            def forward(self, x):
                loc, scale = self.guide.encoder(x)
                point = unit * geometry(loc)
                with pyro.plate("groups", x.shape[0], dim=-2):
                    with pyro.plate("views", x.shape[1], dim=-1):
                        z = pyro.sample("z", dist.Normal((1 - t) * loc + t * point, (1 - t) * scale).to_event(1))
                    pyro.sample("content", self.guide.content(z))

        weights = []
        for pair in (own_densities(limited), LedgerELBO(plain_pair.model, Narrowed(plain_pair.guide))):
            torch.manual_seed(1)
            weights.append(pair.log_weights(x, 5))
        torch.testing.assert_close(*weights)
        torch.manual_seed(1)
        own = own_densities(limited).log_weights(x, 1)
        torch.manual_seed(1)
        assert not torch.allclose(limited.log_weights(x, 1), own)  # the limit's own weights are of no densities

    def test_under_a_limit_at_t_0_the_weights_are_those_of_the_pair(self):
        plain_pair, x = linear_pair(), torch.randn(4, 2, P, dtype=torch.float64)
        own = own_densities(LedgerELBO(*limits.simclr(t=0)(plain_pair.model, plain_pair.guide)).eval())
        weights = []
        for pair in (plain_pair, own):
            torch.manual_seed(1)
            weights.append(pair.log_weights(x, 3))
        torch.testing.assert_close(*weights)

    def test_without_a_limit_the_pair_is_left_as_it_is(self):
        pair = linear_pair()
        assert own_densities(pair) is pair

    @pytest.mark.parametrize(
        ("likelihood", "expected"), [(Bernoulli, False), (ContinuousBernoulli, True), (Normal, True)]
    )
    def test_only_densities_are_continuous(self, likelihood, expected):
        assert is_continuous(network_pair(likelihood=likelihood), torch.zeros(2, 2, *SHAPE)) is expected


class TestGenerate:
    def test_everything_of_images(self):
        scores, left_out = generate(network_pair(), splits_of(), views_of(), 2, seed=0)
        bounds = {"bound", "bound_se", "bound_view", "bound_elbo", "bits_per_dim", "ess"}
        assert set(scores) == bounds | {"mse", "ssim", "frechet"}
        assert all(type(value) is float and math.isfinite(value) for value in scores.values())
        assert left_out == []

    def test_vectors_have_a_bound_and_an_error(self):
        views = torch.randn(12, 2, P)
        splits = Splits(*(VectorGroups(views) for _ in range(3)))
        scores, left_out = generate(network_pair((P,)), splits, views_of((P,)), 2, seed=0)
        assert {"bound", "mse"} < set(scores)
        assert not {"ssim", "frechet"} & set(scores)
        assert left_out == [f"{name}: the views are vectors, not images" for name in ("ssim", "frechet")]

    def test_the_seed_fixes_it_and_the_global_state_is_left_alone(self):
        pair = network_pair()
        pair.train()
        pair.guide.eval()
        state = torch.get_rng_state()
        first, second, other = (generate(pair, splits_of(), views_of(), 2, seed)[0] for seed in (0, 0, 1))
        assert first == second
        assert first["bound"] != other["bound"]
        assert torch.equal(torch.get_rng_state(), state)
        assert pair.training
        assert not pair.guide.training

    def test_bits_of_levels_are_added_to_densities_of_bytes_only(self):
        def bits(likelihood=Normal, stored=lambda images: images, **steps):
            splits = Splits(*(MemorySplit(stored(split.images(torch.arange(12)))) for split in splits_of()))
            scores, _ = generate(network_pair(likelihood=likelihood), splits, views_of(**steps), 2, seed=0)
            return scores["bits_per_dim"] + scores["bound_view"] / (64 * math.log(2))

        assert bits() == pytest.approx(8)
        assert bits(ContinuousBernoulli) == pytest.approx(8)
        assert bits(stored=plain) == pytest.approx(0)
        assert bits(threshold=0.5) == pytest.approx(0)
        assert bits(Bernoulli, threshold=0.5) == pytest.approx(0)

    def test_groups_are_spread_over_the_split(self, monkeypatch):
        monkeypatch.setattr(bound, "MOST_GROUPS", 3)
        seen = []
        splits = splits_of()
        batches = splits.test.batches

        def watched(order, *arguments):
            seen.extend(order.tolist())
            return batches(order, *arguments)

        monkeypatch.setattr(splits.test, "batches", watched)
        generate(known_pair(), splits, views_of(), 2, seed=0)
        assert seen == [0, 5, 11]

    def test_a_pair_that_observes_labels_gets_those_of_the_items(self):
        class Labelled(Copying):
            def forward(self, x, labels=None):
                assert (labels.float()[:, None] == x[:, :, 0, 0, 0] * 255).all()
                super().forward(x)

        splits = splits_of()
        for index, split in enumerate(splits):
            split.labels = split.images(torch.arange(12))[:, 0, 0, 0].long()
            assert len(split.labels.unique()) > 6, index
        pair = LedgerELBO(known_pair().model, Labelled(0.5))
        assert "bound" in generate(pair, splits, views_of(), 2, seed=0)[0]

    def test_flat_content_is_reconstructed_only(self):
        scores, left_out = generate(network_pair(content_scale=math.inf), splits_of(), views_of(), 2, seed=0)
        assert set(scores) == {"mse", "ssim"}
        assert left_out == [
            "bound: flat content is improper, the views have no normalized density",
            "frechet: flat content is improper, there is nothing to draw",
        ]

    def test_point_content_has_no_bound(self):
        scores, left_out = generate(network_pair(content="point"), splits_of(), views_of(), 2, seed=0)
        assert set(scores) == {"mse", "ssim", "frechet"}
        assert left_out == ["bound: the guide sets 'content' to a point, which has no density"]

    def test_below_t_1_a_limit_is_scored_by_its_story(self):
        pair = network_pair()
        scores, left_out = generate(
            LedgerELBO(*limits.simclr(t=0.5)(pair.model, pair.guide)), splits_of(), views_of(), 2, seed=0
        )
        assert {"bound", "mse", "ssim", "frechet"} < set(scores)
        assert left_out == []

    def test_a_limit_has_no_decoder(self):
        pair = network_pair()
        limited = LedgerELBO(*limits.simclr()(pair.model, pair.guide))
        expected = {}, ["generation: a limit leaves the decoder untrained"]
        assert generate(limited, splits_of(), views_of(), 2, seed=0) == expected

    def test_a_story_of_the_training_items(self):
        pair = network_pair(cls=Instance, num_items=12)
        expected = {}, ["generation: the story knows the training items only"]
        assert generate(pair, splits_of(), views_of(), 2, seed=0) == expected

    def test_several_kinds_of_views(self):
        splits = SimpleNamespace(test=SimpleNamespace(event_shape={"image": SHAPE, "text": (5, 27)}))
        assert generate(known_pair(), splits, None, 2, seed=0) == ({}, ["generation: the views are of several kinds"])


class TestReconstruction:
    def test_perfect_at_the_loc_however_wide_the_guide(self):
        scores, left_out = reconstruction_scores(known_pair(scale=100.0), split_of(), plain, 2)
        assert scores == {"mse": pytest.approx(0, abs=1e-12), "ssim": pytest.approx(1)}
        assert left_out == []

    @pytest.mark.parametrize("side", [3, 8, 40])
    def test_constant_images_by_hand(self, side):
        shape = (3, side, side)
        split = MemorySplit(torch.full((5, *shape), 255, dtype=torch.uint8))
        scores, _ = reconstruction_scores(known_pair(shape, view=torch.full(shape, 0.5)), split, plain, 1)
        assert scores["mse"] == pytest.approx(0.25)
        # Without variance SSIM is (2 a b + c) / (a² + b² + c), c = 0.01².
        assert scores["ssim"] == pytest.approx((1 + 1e-4) / (1.25 + 1e-4), abs=1e-3)

    def test_of_every_item(self, monkeypatch):
        monkeypatch.setattr(generation, "MOST_VALUES", 300)  # two items at once
        images = torch.zeros(5, *SHAPE, dtype=torch.uint8)
        images[4] = 255
        scores, _ = reconstruction_scores(known_pair(view=torch.zeros(SHAPE)), MemorySplit(images), plain, 2)
        assert scores["mse"] == pytest.approx(1 / 5)

    def test_unrelated_images_are_not_similar(self):
        view = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))
        assert abs(reconstruction_scores(known_pair(view=view), split_of(), plain, 1)[0]["ssim"]) < 0.2

    def test_directions_stay_on_their_sphere(self):
        shape = (1, 3, 3)
        model = Spherical(Normal(Known(shape)), 9)
        torch.manual_seed(0)
        guide = SphericalMeanField(model, MLP([8]).encoder(shape, 9))
        split = MemorySplit(torch.zeros(4, *shape, dtype=torch.uint8))
        scores, _ = reconstruction_scores(LedgerELBO(model, guide), split, plain, 1)
        assert scores["mse"] == pytest.approx(1 / 9)  # a unit vector against zeros

    def test_tiny_images_have_no_window(self):
        scores, left_out = reconstruction_scores(known_pair((1, 2, 9)), split_of(shape=(1, 2, 9)), plain, 1)
        assert set(scores) == {"mse"}
        assert left_out == ["ssim: the images are smaller than three pixels"]


class TestFrechet:
    def gaussian_splits(self, count=4000, shift=0.0):
        """Images whose pixels are the latents of `known_pair`."""
        splits = []
        for seed in range(3):
            images = torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
            splits.append(MemorySplit(images + shift * (seed == 2)))
        return Splits(*splits)

    def score(self, pair, splits):
        torch.manual_seed(5)
        with torch.no_grad():
            return frechet_score(pair.model, splits, lambda images: images)[0]["frechet"]

    def test_samples_of_the_same_distribution(self):
        assert 0 <= self.score(known_pair((1, 3, 3)), self.gaussian_splits()) < 0.1

    def test_a_shift_by_hand(self):
        # Nine whitened directions, the mean one standard deviation off in each.
        assert self.score(known_pair((1, 3, 3)), self.gaussian_splits(shift=1.0)) == pytest.approx(9, rel=0.1)

    def test_the_mean_image_scores_one_a_component(self):
        splits = self.gaussian_splits()
        splits = splits._replace(test=splits.train)
        mean = splits.train.images(torch.arange(4000)).mean(0)
        assert self.score(known_pair((1, 3, 3), view=mean), splits) == pytest.approx(9, rel=1e-4)

    def test_is_drawn_in_parts(self, monkeypatch):
        monkeypatch.setattr(generation, "MOST_VALUES", 1000)
        assert 0 <= self.score(known_pair((1, 3, 3)), self.gaussian_splits()) < 0.1

    def test_images_that_are_all_the_same(self):
        same = MemorySplit(torch.full((9, *SHAPE), 7, dtype=torch.uint8))
        found = frechet_score(known_pair().model, splits_of()._replace(train=same), plain)
        assert found == ({}, ["frechet: the training images are all the same"])


class TestComponents:
    def test_are_white_and_hold_the_variance(self):
        rng = np.random.default_rng(0)
        scales = np.array([10, 5, 1, 0.5, 0.01, 0])  # shares 0.79, 0.20, 0.008, 0.002
        images = torch.from_numpy((rng.normal(size=(3000, 6)) * scales + 4).astype(np.float32)).view(-1, 1, 2, 3)
        components = Components(images)
        assert components.num_features == 3
        features = components(images)
        torch.testing.assert_close(features.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-4)
        torch.testing.assert_close(features.T.cov(), torch.eye(3).double(), rtol=0, atol=1e-3)

    def test_there_are_64_at_most(self):
        assert Components(torch.rand(500, 1, 10, 10)).num_features == 64

    def test_no_more_than_images(self):
        assert Components(torch.rand(4, 1, 10, 10)).num_features <= 4


def test_the_loc_of_a_mapped_distribution_is_the_mapped_loc():
    base = dist.Normal(torch.tensor([0.5, -1.0]), 0.1).to_event(1)
    mapped = dist.TransformedDistribution(base, [dist.transforms.ExpTransform()])
    torch.testing.assert_close(loc_of(mapped), torch.tensor([0.5, -1.0]).exp())
    torch.testing.assert_close(loc_of(base), torch.tensor([0.5, -1.0]))
