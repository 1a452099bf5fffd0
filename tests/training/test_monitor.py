import math
from types import SimpleNamespace

import pytest
import torch

from d2v.config import MonitorConfig
from d2v.models.effective_rank import effective_rank
from d2v.training.callbacks import PositionWarning
from d2v.training.loop import Due
from d2v.training.monitor import Window, position_warning
from tests.training.fakes import make_recipe


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


def test_targets_that_are_mostly_position_are_told_of() -> None:
    config = MonitorConfig()
    assert position_warning(config, {}) is None
    assert position_warning(config, {"train/target_position_share": 0.3}) is None
    line = position_warning(config, {"train/target_position_share": 0.88})
    assert line is not None
    assert line.startswith("88% of the targets' variance")
    assert "try train.objective.targets.average_norms=[position] in a short run beside this one" in line
    unheard = config.model_copy(update={"max_position_share": 1.0})
    assert position_warning(unheard, {"train/target_position_share": 0.88}) is None


def test_the_line_comes_once_and_after_the_warm_up(capsys: pytest.CaptureFixture[str]) -> None:
    warning, due = PositionWarning(), Due(log=True, probe=False, save=False)
    recipe = make_recipe(schedule={"warmup_updates": 4})
    for update, share in ((4, 0.9), (5, 0.1), (6, 0.9), (7, 0.9)):
        loop = SimpleNamespace(recipe=recipe, state=SimpleNamespace(update=update))
        warning.record(loop, due, {"train/target_position_share": share})
    lines = [line for line in capsys.readouterr().err.splitlines() if "position" in line]
    assert len(lines) == 1
    assert "update 6" in lines[0]
