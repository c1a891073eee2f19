"""Vectors whose content and style are known exactly: two Gaussian blocks, mixed by a random invertible network."""

import copy
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_simvae.checks import count, fraction
from pyro_simvae.data.splits import Batch, Dataset, Split, Splits, index_batches
from pyro_simvae.errors import InputError

TEST_SEED = 30_000
"""Fixes the test items, whatever the split seed, so that scores stay comparable."""

LAYERS = 3
SLOPE = 0.2
"""Of the leaky ReLU between the layers."""

POOL, KEPT = 25_000, 25
"""Random matrices drawn, and how many of them, the best conditioned, may become layers."""

STANDARD = 20_000
"""Items whose mean and standard deviation define the unit of x."""


class Latents(NamedTuple):
    """The distribution of content c and style s, and independent draws of it.

        c ~ Normal(0, Σ_c),     s ~ Normal(a + B c, Σ_s)

    content_factor, style_factor: Cholesky factors of Σ_c and Σ_s, (C, C) and (S, S).
    offset, effect: a (S,) and B (S, C).
    """

    content_factor: Tensor
    style_factor: Tensor
    offset: Tensor
    effect: Tensor

    def draw_content(self, size: int, generator: torch.Generator | None) -> Tensor:
        """(size, C)."""
        noise = torch.randn(size, len(self.content_factor), generator=generator, device=self.offset.device)
        return noise @ self.content_factor.mT

    def draw_style(self, content: Tensor, generator: torch.Generator | None) -> Tensor:
        """s given content (..., C): (..., S)."""
        shape = (*content.shape[:-1], len(self.style_factor))
        noise = torch.randn(shape, generator=generator, device=self.offset.device)
        return self.offset + content @ self.effect.mT + noise @ self.style_factor.mT

    def redraw_style(self, content: Tensor, style: Tensor, kept: Tensor) -> Tensor:
        """Style with some dimensions drawn anew given content and the kept dimensions: it has the same law as before.

        Of a fresh draw s', the kept dimensions K are set right and the others move along (Matheron's rule):

            s' + Σ_·K Σ_KK⁻¹ (s - s')_K

        content: (..., C); style: (..., S); kept: (..., S) bool. Returns (..., S).
        """
        drawn = self.draw_style(content, None)
        covariance = self.style_factor @ self.style_factor.mT
        eye = torch.eye(len(covariance), device=covariance.device)
        both = kept[..., :, None] & kept[..., None, :]
        gain = torch.linalg.solve(torch.where(both, covariance, eye), torch.where(kept, style - drawn, 0.0))
        moved = drawn + torch.where(kept, gain, 0.0) @ covariance
        return torch.where(kept, style, moved)


class Mixing(NamedTuple):
    """x = scale * (f(c, s) - loc), f a network of square layers without biases, leaky ReLU between them.

    layers: (L, P, P), P = C + S.
    loc, scale: (P,).
    """

    layers: Tensor
    loc: Tensor
    scale: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """latents: (..., P), content before style. Returns x (..., P)."""
        first, *others = self.layers
        mixed = latents @ first.mT
        for layer in others:
            mixed = F.leaky_relu(mixed, SLOPE) @ layer.mT
        return (mixed - self.loc) * self.scale


class BlocksSplit(Split):
    """Vectors mixed from a table of content and style.

    Args:
        content: The table's content, (M, C).
        style: Its style, (M, S).
        latents: Where styles, and fresh contents, come from.
        mixing: From latents to x.
        change_probability: Share of the style dimensions in which each further view of a group differs from the first.
        fresh: Whether batches hold new groups every time, whatever the order, instead of the table's.
    """

    def __init__(
        self, content: Tensor, style: Tensor, latents: Latents, mixing: Mixing, change_probability: float, fresh: bool
    ) -> None:
        self.labels = None
        self.factors = named_factors(content, style)
        self.change_probability = change_probability
        self.fresh = fresh
        self._content, self._style = content, style
        self._latents, self._mixing = latents, mixing

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self._content.shape[1] + self._style.shape[1],)

    def __len__(self) -> int:
        return len(self._content)

    def images(self, index: Tensor) -> Tensor:
        index = index.to(self._content.device)
        return self._mixing(torch.cat([self._content[index], self._style[index]], -1))

    def batches(self, order: Tensor, batch_size: int, num_views: int) -> Iterator[Batch]:
        """As for every split; what is drawn comes from torch's global generator, which runs resume."""
        for index in index_batches(order.to(self._content.device), batch_size):
            if self.fresh:
                content = self._latents.draw_content(len(index), None)
                style = self._latents.draw_style(content, None)
            else:
                content, style = self._content[index], self._style[index]
            content = content[:, None].expand(-1, num_views, -1)
            style = torch.cat([style[:, None], self._other_styles(content[:, 1:], style[:, None])], 1)
            yield Batch(self._mixing(torch.cat([content, style], -1)), named_factors(content, style))

    def _other_styles(self, content: Tensor, style: Tensor) -> Tensor:
        """Styles of further views: content (n, J - 1, C), style of the first one (n, 1, S). Returns (n, J - 1, S)."""
        if self.change_probability == 1:
            return self._latents.draw_style(content, None)
        style = style.expand(-1, content.shape[1], -1)
        kept = torch.rand(style.shape, device=style.device) >= self.change_probability
        return self._latents.redraw_style(content, style, kept)

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        moved._content, moved._style = self._content.to(device), self._style.to(device)
        moved._latents = Latents(*(part.to(device) for part in self._latents))
        moved._mixing = Mixing(*(part.to(device) for part in self._mixing))
        return moved


class Blocks(Dataset):
    """Content and style, a Gaussian block each, mixed into vectors x of as many numbers.

        content   c ~ Normal(0, Σ_c)              the same in all views of a group      (C,)
        style     s ~ Normal(a + B c, Σ_s)        drawn anew for each view              (S,)
        view      x = f(c, s)                     f a random invertible network         (C + S,)

    Training groups are new at every epoch, so that nothing is learned by heart, and a limit that remembers items by
    their index has nothing to remember. Validation and test items are fixed.

    f has three layers, with leaky ReLU between them; each is one of the best conditioned 0.1 % of random matrices
    whose columns have length one. Three things differ from the published code: x is shifted and scaled to mean 0 and
    standard deviation 1 in each coordinate; a style that changes is drawn anew, where the code adds Normal(0, Σ_s) to
    it, so that all views have the same distribution; covariances, a and B are drawn once, with f, not for every batch.

    Args:
        num_groups: Training groups an epoch; a tenth as many are added for validation and a fifth for the test.
        content_dim, style_dim: C and S.
        statistical: Whether dimensions depend on each other within a block: Σ_c and Σ_s are drawn from
            Wishart(I, C) and Wishart(I, S). Otherwise both are I.
        causal: Whether style depends on content: a and B are standard normal. Otherwise both are 0.
        change_probability: How probably a style dimension of a group's further views differs from that of the first
            one, in [0, 1]. It is then drawn anew given content and the other dimensions.
        mixing_seed: Draws f, covariances, a and B.
        split_seed: Draws the validation items, and the training items that probes are fitted on.

    Raises:
        InputError: If an option is out of range.

    Source: von Kügelgen et al. 2021, *Self-supervised learning with data augmentations provably isolates content from
    style* (arXiv:2106.04619), section 5.1 and appendix.
    """

    views = "none"

    def __init__(
        self,
        num_groups: int = 20_000,
        content_dim: int = 5,
        style_dim: int = 5,
        statistical: bool = False,
        causal: bool = False,
        change_probability: float = 1.0,
        mixing_seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        if num_groups < 10:
            raise InputError(f"{num_groups} groups are too few for three splits; set --data.num_groups to 10 or more")
        self.num_groups = num_groups
        self.content_dim = count("data.content_dim", content_dim)
        self.content_factors = tuple(f"content_{d + 1}" for d in range(self.content_dim))
        self.style_dim = count("data.style_dim", style_dim)
        self.statistical = statistical
        self.causal = causal
        self.change_probability = fraction("data.change_probability", change_probability)
        self.mixing_seed = mixing_seed
        self.split_seed = split_seed

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(self.mixing_seed)
        latents = draw_latents(self.content_dim, self.style_dim, self.statistical, self.causal, generator)
        mixing = draw_mixing(latents, generator)

        def split(size: int, generator: torch.Generator, fresh: bool = False) -> BlocksSplit:
            content = latents.draw_content(size, generator)
            style = latents.draw_style(content, generator)
            return BlocksSplit(content, style, latents, mixing, self.change_probability, fresh)

        generator = torch.Generator().manual_seed(self.split_seed)
        return Splits(
            split(self.num_groups, generator, fresh=True),
            split(self.num_groups // 10, generator),
            split(self.num_groups // 5, torch.Generator().manual_seed(TEST_SEED)),
        )


def draw_latents(
    content_dim: int, style_dim: int, statistical: bool, causal: bool, generator: torch.Generator
) -> Latents:
    """A distribution of content and style; the options are those of `Blocks`."""

    def factor(dim: int) -> Tensor:
        # G Gᵀ of a square standard normal G is Wishart(I, dim).
        root = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
        return torch.linalg.cholesky(root @ root.mT).float() if statistical else torch.eye(dim)

    content_factor, style_factor = factor(content_dim), factor(style_dim)
    offset = torch.randn(style_dim, generator=generator) * causal
    effect = torch.randn(style_dim, content_dim, generator=generator) * causal
    return Latents(content_factor, style_factor, offset, effect)


def draw_mixing(latents: Latents, generator: torch.Generator) -> Mixing:
    """A mixing of these latents whose x has mean 0 and standard deviation 1 in each coordinate."""
    dim = len(latents.content_factor) + len(latents.style_factor)
    pool = 2 * torch.rand(POOL, dim, dim, dtype=torch.float64, generator=generator) - 1
    pool = pool / pool.norm(dim=1, keepdim=True)
    best = torch.linalg.cond(pool).topk(KEPT, largest=False).indices
    layers = pool[best[torch.randperm(KEPT, generator=generator)[:LAYERS]]].float()
    content = latents.draw_content(STANDARD, generator)
    style = latents.draw_style(content, generator)
    mixed = Mixing(layers, torch.zeros(dim), torch.ones(dim))(torch.cat([content, style], -1))
    return Mixing(layers, mixed.mean(0), 1 / mixed.std(0))


def named_factors(content: Tensor, style: Tensor) -> dict[str, Tensor]:
    """Content and style `(..., C)` and `(..., S)` as factors by name, each `(...)`."""
    blocks = {"content": content, "style": style}
    return {f"{name}_{d + 1}": block[..., d] for name, block in blocks.items() for d in range(block.shape[-1])}
