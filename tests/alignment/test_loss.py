"""The contrastive loss and its temperature, against values that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from d2v.alignment.loss import FIRST_LOG_SCALE, MOST_LOG_SCALE, Temperature, contrastive_loss


@pytest.mark.parametrize(("pairs", "expected"), [(2, 0.6931), (8, 2.0794), (512, 6.2383)])
def test_vectors_that_are_all_alike_cost_the_logarithm_of_their_number(pairs, expected):
    alike = torch.ones(pairs, 4)
    assert float(contrastive_loss(alike, alike, 14.0)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.313262), (1 / 0.07, 6.0e-7), (100.0, 0.0)])
def test_two_orthonormal_pairs(scale, expected):
    loss = contrastive_loss(torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), scale)
    assert float(loss) == pytest.approx(expected, abs=5e-7 if scale == 1.0 else 3e-8)


def test_the_sides_are_alike_and_lengths_do_not_count():
    first, second = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    loss = contrastive_loss(first, second, 10.0)
    torch.testing.assert_close(contrastive_loss(second, first, 10.0), loss)
    torch.testing.assert_close(contrastive_loss(3.0 * first, 0.2 * second, 10.0), loss)


def test_pairs_that_belong_together_are_no_wrong_answers():
    generator = torch.Generator().manual_seed(0)
    vectors = functional.normalize(torch.randn(3, 4, generator=generator, dtype=torch.float64), dim=1)
    twice = vectors[[0, 1, 1]]
    plain = contrastive_loss(twice, twice, 10.0)
    known = contrastive_loss(twice, twice, 10.0, torch.tensor([0, 1, 1]))
    assert float(known) < float(plain)
    by_hand = [
        math.log(1 + 2 * math.exp(10 * (float(vectors[0] @ vectors[1]) - 1))),
        *[math.log(1 + math.exp(10 * (float(vectors[0] @ vectors[1]) - 1)))] * 2,
    ]
    assert float(known) == pytest.approx(sum(by_hand) / 3, rel=1e-6)


def test_the_temperature_starts_at_one_over_seven_hundredths_and_stays_within_its_bounds():
    temperature = Temperature()
    assert float(temperature().detach()) == pytest.approx(1 / 0.07)
    assert pytest.approx(2.6593, abs=1e-4) == FIRST_LOG_SCALE
    for sign, end in ((-1.0, math.log(100.0)), (1.0, 0.0)):
        optimizer = torch.optim.SGD(temperature.parameters(), lr=1.0)
        (sign * 1e6 * temperature.log_scale).backward()
        optimizer.step()
        temperature.clamp()
        assert temperature.log_scale.item() == pytest.approx(end)
        optimizer.zero_grad()
    assert pytest.approx(4.60517, abs=1e-5) == MOST_LOG_SCALE
