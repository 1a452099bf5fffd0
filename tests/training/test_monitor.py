import math

import pytest
import torch

from d2v.models.effective_rank import effective_rank
from d2v.training.monitor import Window


def test_effective_rank_counts_directions() -> None:
    torch.manual_seed(0)
    assert effective_rank(torch.eye(16)) == pytest.approx(16, rel=1e-3)
    assert effective_rank(torch.ones(64, 16)) == pytest.approx(1, rel=1e-3)
    assert effective_rank(torch.randn(5000, 3) @ torch.randn(3, 16)) < 3.01


def test_effective_rank_of_broken_features_is_nan() -> None:
    assert math.isnan(effective_rank(torch.full((4, 2), float("inf"))))


def test_a_window_cut_by_a_checkpoint_has_the_same_mean() -> None:
    figures = [{"loss": torch.tensor(value)} for value in (0.1, 0.7, 0.3)]
    whole, first = Window(), Window()
    for figure in figures:
        whole.add(figure)
    first.add(figures[0])
    second = Window(first.to_lists())
    for figure in figures[1:]:
        second.add(figure)
    assert second.take_means() == whole.take_means()
    assert second.take_means() == {}
