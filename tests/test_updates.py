"""Lengths of a run's phases as shares of it, and what a recipe alone says against a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2v.config import ScheduleConfig, changed, parse, read_recipe, updates_of
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from d2v.training.resume import shaping
from d2v.training.schedule import learning_rate

CONF = Path(__file__).resolve().parents[1] / "conf"
MODALITIES = ("vision", "speech", "text")


def own_data(modality: str, **train: Any) -> Any:
    """The recipe `own_data` with other entries in its train block."""
    values = read_recipe(CONF, "own_data", modality)
    return parse(registry.recipe_type(modality), values | {"train": values["train"] | train}, at=modality)


@pytest.mark.parametrize(("written", "meant"), [(200, 200), (200.0, 200), (0, 0), (0.05, 200), (1.0, 4000), (1, 1)])
def test_a_length_is_a_number_of_updates_or_a_share(written: float, meant: int) -> None:
    schedule = ScheduleConfig(warmup_updates=written)
    assert schedule.warmup(4000) == updates_of(schedule.warmup_updates, 4000) == meant
    assert ScheduleConfig.model_validate(schedule.model_dump(mode="json")) == schedule


@pytest.mark.parametrize("written", [-1, 1.5, "often", None, [3], float("nan")])
def test_what_is_neither_is_refused(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"x\.warmup_updates: .*or a share of the run, such as 0\.1"):
        parse(ScheduleConfig, {"warmup_updates": written}, at="x")


@pytest.mark.parametrize("modality", MODALITIES)
def test_shares_follow_max_updates(modality: str) -> None:
    for updates in (100, 3000):
        recipe = own_data(modality, max_updates=updates).train
        counted = recipe.in_updates()
        assert counted.objective.ema.anneal_updates == updates
        assert counted.probe_every_updates == updates // 5
        assert counted.checkpoint.every_updates == updates // 20
        peak = counted.schedule.warmup_updates
        assert learning_rate(recipe.schedule, 1.0, peak, updates) == learning_rate(counted.schedule, 1.0, peak, updates)
        assert recipe.remarks(modality) == []
        decay = build_objective(registry.get(modality), recipe).teacher_decay(updates)
        assert decay == recipe.objective.ema.decay_end


def test_a_share_and_its_number_are_the_same_run() -> None:
    recipe = own_data("vision").train
    assert shaping(recipe) == shaping(recipe.in_updates())
    shorter = changed(recipe, {"max_updates": 500}, at="x")
    assert shorter.in_updates().schedule.warmup_updates == 10


def test_a_run_that_is_mostly_warm_up_is_said() -> None:
    (said,) = own_data("vision", max_updates=200, schedule={"warmup_updates": 200}).train.remarks("vision.train")
    assert said.startswith("all of the 200 updates of vision.train are warm-up")
    assert "vision.train.schedule.warmup_updates=0.1" in said
    assert own_data("vision", max_updates=200, schedule={"warmup_updates": 100}).train.remarks("vision.train") == []


def test_budgets_that_hold_no_items_are_told_by_the_recipe() -> None:
    with pytest.raises(ConfigError, match=r"does not hold 4 recordings of prepare.min_seconds 1: raise it to at least"):
        own_data("speech", batch_budget={"positions": 60_000, "multiple_of": 4})
    (said,) = own_data("speech", batch_budget={"positions": 320_000, "multiple_of": 4}).train.remarks("speech.train")
    assert "holds 4 recordings of 5.0 s" in said
    for modality in ("vision", "text"):
        with pytest.raises(ConfigError, match="are alike: set batch_size"):
            own_data(modality, batch_size=None, batch_budget={"positions": 60_000})


def test_a_key_that_yaml_takes_for_true_is_named() -> None:
    values = read_recipe(CONF, "own_data", "vision")
    with pytest.raises(ConfigError, match=r"vision\.retrain has the key True.*write such a key in quotes"):
        parse(registry.recipe_type("vision"), values | {"retrain": {True: "always"}}, at="vision")
