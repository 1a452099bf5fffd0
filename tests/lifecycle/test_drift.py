"""The drift test: it sees a known shift, and cries wolf as often as its level says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from d2v.config import DriftConfig
from d2v.errors import DataError
from d2v.lifecycle.drift import Drift, compare, draw_drift

CONFIG = DriftConfig(items=80, permutations=199, level=0.05)


def features(seed: int, items: int = 80, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(items, 12, generator=generator)


def drift(new: Tensor, config: DriftConfig = CONFIG) -> Drift:
    return compare(features(0), new, config)


def test_a_shift_is_found() -> None:
    found = drift(features(1, shift=0.5))
    assert found.drifted
    assert found.p_value == 1 / 200
    assert found.statistic > found.null_P.max()


def test_so_is_another_spread_around_the_same_mean() -> None:
    assert drift(features(1, scale=2.0)).drifted


def test_channels_count_alike_however_large_they_are() -> None:
    large = torch.tensor([1000.0] + [1.0] * 11)
    shifted = features(1)
    shifted[:, 5] += 1.5
    assert compare(features(0) * large, shifted * large, CONFIG).drifted


def test_false_alarms_come_at_their_level() -> None:
    alarms = [compare(features(2 * n, 40), features(2 * n + 1, 40), CONFIG).drifted for n in range(200)]
    assert 2 <= sum(alarms) <= 20  # 10 are expected; a right test leaves these bounds once in a thousand times


def test_the_statistic_is_the_unbiased_one() -> None:
    """Against the definition, sum by sum (Gretton et al. 2012, equation 3)."""
    old, new = features(0, 9), features(1, 7, shift=0.3)
    both = torch.cat([old, new]).double() / old.std(dim=0)
    squares = (both[:, None] - both[None]).square().sum(-1)
    median = squares[~torch.eye(16, dtype=torch.bool)].median()
    kernel = np.exp(-(squares / (2 * median)).numpy())
    xs, ys = range(9), range(9, 16)
    expected = sum(kernel[i, j] for i in xs for j in xs if i != j) / (9 * 8)
    expected += sum(kernel[i, j] for i in ys for j in ys if i != j) / (7 * 6)
    expected -= 2 * sum(kernel[i, j] for i in xs for j in ys) / (9 * 7)
    assert compare(old, new, CONFIG).statistic == pytest.approx(expected, rel=1e-5)


def test_samples_are_thinned_out_and_never_empty() -> None:
    found = compare(features(0, 500), features(1, 300), CONFIG)
    assert (len(found.old_ND), len(found.new_MD)) == (80, 80)
    with pytest.raises(DataError, match="two items of either side"):
        compare(features(0), features(1, 1), CONFIG)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    assert draw_drift(drift(features(1, shift=0.5)), tmp_path / "drift.png").stat().st_size > 10_000


def test_a_level_that_no_permutation_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="set permutations to at least 999"):
        DriftConfig(permutations=199, level=0.001)
