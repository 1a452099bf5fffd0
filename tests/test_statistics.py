"""Intervals hold what they promise, on simulated data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d2v.errors import DataError
from d2v.statistics import (
    Score,
    accuracy_interval,
    better,
    difference_interval,
    draw_seeds,
    of_right,
    score_difference_interval,
    score_interval,
    seeds_difference_interval,
    seeds_interval,
)

REPEATS = 400
LEAST, MOST = 0.91, 0.98
"""Coverage of a 95% interval in 400 repeats lies here but for one time in a thousand or so (sd 1.1 points)."""


@pytest.mark.parametrize(("items", "rate"), [(200, 0.5), (400, 0.85)])
def test_accuracy_intervals_cover_the_truth_19_times_in_20(items: int, rate: float) -> None:
    random = np.random.default_rng(0)
    intervals = [accuracy_interval(random.random(items) < rate, 400, seed) for seed in range(REPEATS)]
    assert LEAST <= np.mean([i.low <= rate <= i.high for i in intervals]) <= MOST


def test_difference_intervals_cover_the_truth_and_are_paired() -> None:
    """Two encoders that mostly fail on the same items: the difference is surer than two accuracies by themselves."""
    random = np.random.default_rng(1)
    covered, narrower = [], []
    for seed in range(REPEATS):
        hardness = random.random(300)
        a, b = hardness < 0.7, (hardness < 0.6) ^ (random.random(300) < 0.02)
        truth = 0.7 - (0.6 * 0.98 + 0.4 * 0.02)
        paired = difference_interval(a, b, 400, seed)
        apart = np.hypot(*(i.high - i.low for i in (accuracy_interval(a, 400), accuracy_interval(b, 400))))
        covered.append(paired.low <= truth <= paired.high)
        narrower.append(paired.high - paired.low < 0.75 * apart)
    assert LEAST <= np.mean(covered) <= MOST
    assert np.mean(narrower) > 0.99


def test_equal_encoders_are_seldom_called_better() -> None:
    random = np.random.default_rng(2)
    wins = [better(random.random(200) < 0.5, random.random(200) < 0.5, 400, seed) for seed in range(REPEATS)]
    assert np.mean(wins) < 0.06


def test_counts_are_drawn_as_items_would_be() -> None:
    """The multinomial short cut has the spread of the plain bootstrap, which draws items."""
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 150, p=[0.1, 0.6, 0.3])
    drawn = np.random.default_rng(4).choice(values, (20_000, 150)).mean(axis=1)
    interval = accuracy_interval(values, 20_000)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(drawn, [0.025, 0.975]), atol=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    correct = torch.rand(100, generator=torch.Generator().manual_seed(0)) < 0.4
    assert accuracy_interval(correct, seed=3) == accuracy_interval(correct.numpy(), seed=3)


def test_sure_things_have_no_width() -> None:
    interval = accuracy_interval(np.ones(10, dtype=bool))
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)
    assert interval.above_zero
    nothing = difference_interval(np.ones(10), np.ones(10))
    assert not nothing.above_zero
    assert not nothing.excludes_zero
    assert difference_interval(np.zeros(10), np.ones(10)).excludes_zero


def test_one_item_is_enough() -> None:
    assert accuracy_interval(np.array([True])).value == 1.0


def test_no_items_and_unequal_items_are_refused() -> None:
    with pytest.raises(DataError, match="at least one test item"):
        accuracy_interval(np.array([]))
    with pytest.raises(DataError, match="same items, not 3 and 4"):
        difference_interval(np.ones(3), np.ones(4))


# ------------------------------------------------------------------------------- any figure of the items


def mean_of(values_N: np.ndarray) -> Score:
    return Score(len(values_N), lambda counts_RN: counts_RN @ values_N / counts_RN.sum(axis=1))


def median_of(values_N: np.ndarray) -> Score:
    ordered_N = np.sort(values_N)
    order_N = np.argsort(values_N)

    def of_counts(counts_RN: np.ndarray) -> np.ndarray:
        below_RN = np.cumsum(counts_RN[:, order_N], axis=1)
        return ordered_N[np.argmax(below_RN >= len(values_N) / 2, axis=1)]

    return Score(len(values_N), of_counts)


def test_the_interval_of_a_mean_is_that_of_the_multinomial_short_cut() -> None:
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 150, p=[0.1, 0.6, 0.3])
    short, plain = accuracy_interval(values, 20_000), score_interval(mean_of(values), 20_000)
    assert plain.value == pytest.approx(short.value)
    np.testing.assert_allclose([plain.low, plain.high], [short.low, short.high], atol=0.01)


def test_intervals_of_a_median_cover_the_truth() -> None:
    random = np.random.default_rng(5)
    found = [score_interval(median_of(random.exponential(size=201)), 300, seed) for seed in range(REPEATS)]
    assert LEAST <= np.mean([i.low <= np.log(2.0) <= i.high for i in found]) <= MOST


def test_differences_of_scores_are_paired() -> None:
    a = np.random.default_rng(6).normal(size=300)
    gain = score_difference_interval(mean_of(a + 0.01), mean_of(a))
    np.testing.assert_allclose([gain.value, gain.low, gain.high], 0.01)


def test_long_resamples_are_drawn_in_pieces_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    score = mean_of(np.random.default_rng(7).normal(size=50))
    whole = score_interval(score, 101)
    monkeypatch.setattr("d2v.statistics.CHUNK_COUNTS", 120)
    pieces = score_interval(score, 101)
    np.testing.assert_allclose([pieces.low, pieces.high], [whole.low, whole.high], atol=1e-12)


def test_scores_without_items_and_of_unequal_items_are_refused() -> None:
    with pytest.raises(DataError, match="at least one test item"):
        score_interval(Score(0, lambda counts_RN: np.zeros(len(counts_RN))))
    with pytest.raises(DataError, match="same items, not 3 and 4"):
        score_difference_interval(mean_of(np.ones(3)), mean_of(np.ones(4)))


def test_one_seed_has_the_interval_of_its_items() -> None:
    score = of_right(np.random.default_rng(0).random(200) < 0.7)
    assert seeds_interval([score]) == score_interval(score)


def test_seeds_that_differ_widen_an_interval_and_shared_faults_cancel() -> None:
    right_N = np.arange(400) < 240
    alike, apart = [of_right(right_N)] * 3, [of_right(np.arange(400) < count) for count in (160, 240, 320)]
    narrow, wide = seeds_interval(alike), seeds_interval(apart)
    assert narrow.value == wide.value == pytest.approx(0.6)
    assert (narrow.low, narrow.high) == (pytest.approx(0.6, abs=0.07), pytest.approx(0.6, abs=0.07))
    assert wide.low < 0.5
    assert wide.high > 0.7
    shifted = [of_right(np.arange(400) < count - 40) for count in (160, 240, 320)]
    gain = seeds_difference_interval(apart, shifted)
    assert gain.value == pytest.approx(0.1)
    assert gain.above_zero


def test_seeds_of_one_start_are_drawn_together() -> None:
    """Six task seeds on two encoders that differ: as uncertain as two, and not as six."""
    scores = [of_right(np.arange(1000) < (400 if seed % 2 else 600)) for seed in range(6)]
    together, alone = (seeds_interval(scores, starts=starts) for starts in (2, None))
    assert together.value == alone.value == pytest.approx(0.5)
    assert together.high - together.low > 1.2 * (alone.high - alone.low)
    drawn_RS = draw_seeds(5, 500, 0, starts=2)
    assert set(np.unique(drawn_RS)) == set(range(5))
    assert (drawn_RS[:, [0, 2, 4]] % 2 == drawn_RS[:, :1] % 2).all()


def test_one_of_a_kind_stands_beside_every_seed() -> None:
    ours = [of_right(np.arange(100) < count) for count in (50, 70)]
    gain = seeds_difference_interval(ours, [of_right(np.arange(100) < 10)])
    assert gain.value == pytest.approx(0.5)
    assert gain.high > 0.6
    with pytest.raises(DataError, match="same seeds"):
        seeds_difference_interval(ours, [*ours, ours[0]])
    with pytest.raises(DataError, match="same items"):
        seeds_interval([ours[0], of_right(np.ones(3))])
