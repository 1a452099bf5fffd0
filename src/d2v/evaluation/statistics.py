"""How sure a probe's figures are: percentile bootstrap over the test items, paired for differences.

The intervals speak of the choice of test items only; another training seed adds spread that they do not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from d2v.errors import DataError

LEVEL = 0.95

Values = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval, in the unit of the values."""

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
        raise DataError("An interval needs at least one test item: raise the number of probe test items in prepare")
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1.0 - level) / 2, (1.0 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def difference_interval(
    a_correct: Values, b_correct: Values, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Paired bootstrap interval of mean(a) - mean(b), both measured on the same items in the same order.

    Raises:
        DataError: the two do not have the same number of items, or none.
    """
    a, b = np.asarray(a_correct).astype(np.float64), np.asarray(b_correct).astype(np.float64)
    if a.shape != b.shape:
        raise DataError(f"A paired difference needs the same items on both sides, not {len(a)} and {len(b)}")
    return accuracy_interval(a - b, resamples, seed, level)


def better(a_correct: Values, b_correct: Values, resamples: int = 1000, seed: int = 0, level: float = LEVEL) -> bool:
    """Whether `a` beats `b`: the paired interval of a - b lies wholly above zero."""
    return difference_interval(a_correct, b_correct, resamples, seed, level).above_zero
