"""Codebooks: which entry is chosen, how often with noise, and where the gradient goes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from d2v.config import QuantizerConfig
from d2v.data.random import uniform
from d2v.models.quantizer import GumbelQuantizer, perplexity

CONFIG = QuantizerConfig(groups=2, entries=4, width=6)


def draw(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make() -> GumbelQuantizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GumbelQuantizer(5, CONFIG)


def test_without_noise_the_best_entry_of_each_codebook_is_taken() -> None:
    quantizer, x = make(), draw((3, 7, 5))
    quantized = quantizer(x, None, temperature=2.0)
    best = quantizer.scores(x).view(3, 7, 2, 4).argmax(dim=-1)
    assert torch.equal(quantized.codes, best)
    expected = torch.cat([book.weight.T[best[..., group]] for group, book in enumerate(quantizer.codebooks)], dim=-1)
    torch.testing.assert_close(quantized.vectors, expected)


def test_with_noise_entries_come_as_often_as_their_softmax_says() -> None:
    """The Gumbel-max trick, with draws as training makes them."""
    quantizer, x, count = make(), 0.5 * draw((1, 1, 5)), 20_000
    noise = uniform(torch.arange(count), 8).view(count, 1, 2, 4)
    codes = quantizer(x.expand(count, -1, -1), noise, temperature=0.7).codes[:, 0]
    shares = torch.nn.functional.one_hot(codes, 4).float().mean(dim=0)
    expected = quantizer.scores(x).view(2, 4).softmax(dim=-1)
    torch.testing.assert_close(shares, expected, rtol=0, atol=4 * 0.5 / math.sqrt(count))


def test_noise_stays_finite_at_both_ends_of_its_draws() -> None:
    for end in (0.0, 1.0 - 2.0**-24):
        quantized = make()(draw((1, 2, 5)), torch.full((1, 2, 2, 4), end), temperature=0.5)
        assert torch.isfinite(quantized.vectors).all()


def test_the_gradient_is_that_of_the_softmax() -> None:
    quantizer, x, weight = make(), draw((2, 3, 5)).requires_grad_(), draw((2, 3, 6), seed=1)
    (hard,) = torch.autograd.grad((quantizer(x, None, temperature=0.5).vectors * weight).sum(), x)
    soft = (quantizer.scores(x).view(2, 3, 2, 4) / 0.5).softmax(dim=-1)
    vectors = torch.cat([soft[:, :, group] @ book.weight.T for group, book in enumerate(quantizer.codebooks)], dim=-1)
    (expected,) = torch.autograd.grad((vectors * weight).sum(), x)
    torch.testing.assert_close(hard, expected)
    assert (expected != 0).any()


def test_temperature_falls_to_its_end() -> None:
    quantizer = GumbelQuantizer(5, QuantizerConfig(entries=4, width=4, temperature_decay=0.5))
    assert [quantizer.temperature(update) for update in (0, 1, 2, 3, 100)] == [2.0, 1.0, 0.5, 0.5, 0.5]


def test_perplexity_counts_entries_in_use() -> None:
    assert float(perplexity(torch.full((2, 8), 1 / 8))) == pytest.approx(16.0, rel=1e-4)
    one = torch.nn.functional.one_hot(torch.tensor([3, 5]), 8).float()
    assert float(perplexity(one)) == pytest.approx(2.0, rel=1e-4)
