"""How certain metrics are: percentile bootstrap over the test items, paired for differences.

The intervals of one training speak of the choice of test items only; another training seed adds spread that they do not
show. Those of several seeds draw seeds as well (hierarchical bootstrap). Of three seeds that differ more than the items
make them, such an interval holds the truth four times in five and not nineteen times in twenty.

Shapes: N items, R resamples, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from d2v.errors import DataError

LEVEL = 0.95
CHUNK_COUNTS = 2**22  # of resamples at a time: 32 MB

Values = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Interval:
    """A metric with the ends of its interval, in the metric's own unit."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """The whole interval lies above zero."""
        return self.low > 0.0

    @property
    def excludes_zero(self) -> bool:
        """The whole interval lies on one side of zero."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True)
class Score:
    """A metric of a set of items that can be taken again of any resample of them.

    Attributes:
        items: how many there are.
        of_counts: counts (R, N), how often each resample holds each item -> metrics (R,).
    """

    items: int
    of_counts: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """The metric of the items themselves."""
        return float(self.of_counts(np.ones((1, self.items)))[0])


def accuracy_interval(correct: Values, resamples: int = 1000, seed: int = 0, level: float = LEVEL) -> Interval:
    """Percentile bootstrap interval of the mean of `correct` (n,), one entry (bool or number) an item.

    A resample of n items with replacement is fully described by how often it holds each distinct value, and these
    counts are multinomial: drawing them costs the same for ten items as for a million.

    Raises:
        DataError: no items.

    Example:
        >>> accuracy_interval(np.array([True, True, False, True])).value
        0.75
    """
    values = np.asarray(correct).astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise _too_few()
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    return _percentiles(float(values.mean()), drawn @ distinct / len(values), level)


def difference_interval(
    a_correct: Values, b_correct: Values, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Paired bootstrap interval of mean(a) - mean(b), both measured on the same items in the same order.

    Raises:
        DataError: the two do not have the same number of items, or none.
    """
    a, b = np.asarray(a_correct).astype(np.float64), np.asarray(b_correct).astype(np.float64)
    if a.shape != b.shape:
        raise _not_alike(len(a), len(b))
    return accuracy_interval(a - b, resamples, seed, level)


def better(a_correct: Values, b_correct: Values, resamples: int = 1000, seed: int = 0, level: float = LEVEL) -> bool:
    """Whether `a` beats `b`: the paired interval of a - b lies wholly above zero."""
    return difference_interval(a_correct, b_correct, resamples, seed, level).above_zero


def score_interval(score: Score, resamples: int = 1000, seed: int = 0, level: float = LEVEL) -> Interval:
    """Percentile bootstrap interval of any metric.

    Raises:
        DataError: no items.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> score_interval(Score(3, lambda counts_RN: counts_RN @ x / 3)).value
        2.0
    """
    return _percentiles(score.value, _resampled(score.items, score.of_counts, resamples, seed), level)


def score_difference_interval(
    a: Score, b: Score, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Paired bootstrap interval of metric a - metric b: both are taken of the same resamples of the same items.

    Raises:
        DataError: the two do not have the same number of items, or none.
    """
    if a.items != b.items:
        raise _not_alike(a.items, b.items)
    return score_interval(_difference(a, b), resamples, seed, level)


def seeds_interval(
    of_seeds: Sequence[Score],
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
    starts: int | None = None,
) -> Interval:
    """Interval of the mean over training seeds; each resample draws seeds and items.

    Args:
        of_seeds: the metric of each seed, on the same items.
        resamples, seed, level: of the bootstrap.
        starts: models that the seeds start from in turns, seed s from s modulo `starts`: each resample draws these,
            then seeds of each. None: every seed is a start of its own.

    Raises:
        DataError: no items, or not the same number everywhere.

    Example:
        >>> scores = [Score(2, lambda counts_RN: counts_RN @ np.array(x) / 2) for x in ([1, 0], [1, 1])]
        >>> seeds_interval(scores).value
        0.75
    """
    items = of_seeds[0].items
    for one in of_seeds:
        if one.items != items:
            raise _not_alike(items, one.items)

    def of_counts(counts_RN: np.ndarray) -> np.ndarray:
        return np.stack([one.of_counts(counts_RN) for one in of_seeds], axis=1)

    metrics_RS = _resampled(items, of_counts, resamples, seed)
    drawn_RS = draw_seeds(len(of_seeds), len(metrics_RS), seed, starts)
    means_R = np.take_along_axis(metrics_RS, drawn_RS, axis=1).mean(axis=1)
    return _percentiles(float(np.mean([one.value for one in of_seeds])), means_R, level)


def seeds_difference_interval(
    a: Sequence[Score],
    b: Sequence[Score],
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
    starts: int | None = None,
) -> Interval:
    """Paired interval of mean(a) - mean(b) over seeds and items: seed s of one side belongs to seed s of the other.

    Args:
        a, b: the metric of each seed, on the same items; a single one is set beside each of the other side's.
        resamples, seed, level, starts: see `seeds_interval`.

    Raises:
        DataError: the two do not have the same number of items, or none, or different numbers of seeds.
    """
    seeds = max(len(a), len(b))
    pairs = list(zip(*(list(side) * (seeds if len(side) == 1 else 1) for side in (a, b)), strict=False))
    if len(pairs) != seeds:
        raise _not_alike(len(a), len(b), "seeds")
    for one, other in pairs:
        if one.items != other.items:
            raise _not_alike(one.items, other.items)
    return seeds_interval([_difference(one, other) for one, other in pairs], resamples, seed, level, starts)


def _difference(a: Score, b: Score) -> Score:
    return Score(a.items, lambda counts_RN: a.of_counts(counts_RN) - b.of_counts(counts_RN))


def of_right(right: Values) -> Score:
    """The share of items that are named right.

    Args:
        right: (N,) bool or 0 to 1.
    """
    right_N = np.asarray(right).astype(np.float64)
    return Score(len(right_N), lambda counts_RN: counts_RN @ right_N / len(right_N))


def draw_seeds(seeds: int, resamples: int, seed: int, starts: int | None = None) -> np.ndarray:
    """(R, S) which seeds each resample holds: starts drawn at random, and of each as many of its seeds as it has."""
    random, groups = np.random.default_rng([seed, 1]), min(starts or seeds, seeds)
    start_RS = random.integers(groups, size=(resamples, groups))[:, np.arange(seeds) % groups]
    of_start_RS = -(-(seeds - start_RS) // groups)
    return start_RS + groups * (random.random((resamples, seeds)) * of_start_RS).astype(np.int64)


def _resampled(items: int, of_counts: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int) -> np.ndarray:
    if not items:
        raise _too_few()
    return np.concatenate([of_counts(counts_RN) for counts_RN in _counts(items, resamples, seed)])


def _counts(items: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample holds each item, (R, N) a chunk; the same for every score of as many items."""
    random = np.random.default_rng(seed)
    chunk = max(CHUNK_COUNTS // items, 1)
    for start in range(0, resamples, chunk):
        drawn = (random.integers(items, size=items) for _ in range(min(chunk, resamples - start)))
        yield np.stack([np.bincount(chosen, minlength=items) for chosen in drawn]).astype(np.float64)


def _percentiles(value: float, resampled_R: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resampled_R, [(1.0 - level) / 2, (1.0 + level) / 2])
    return Interval(value, float(low), float(high))


def _too_few() -> DataError:
    return DataError("An interval needs at least one test item: raise the number of probe test items in prepare")


def _not_alike(a: int, b: int, what: str = "items") -> DataError:
    return DataError(f"What is compared needs the same {what}, not {a} and {b}: evaluate both on one test set")
