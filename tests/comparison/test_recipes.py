"""The benchmark blocks of conf/ fit the blocks that they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2v.comparison.comparison import Comparison
from d2v.config import parse, read_recipe
from d2v.modalities import registry
from tests.conftest import ROOT

RECIPES = {
    (path.parent.name, name): read_recipe(ROOT / "conf", path.parent.name, name)
    for name in registry.MODALITIES
    for path in sorted((ROOT / "conf").glob(f"*/parameters_{name}.yml"))
}
WITH_BENCHMARK = [key for key, recipe in RECIPES.items() if "benchmark" in recipe]


def test_every_modality_has_one() -> None:
    assert {name for _, name in WITH_BENCHMARK} == set(registry.MODALITIES)


@pytest.mark.parametrize(("environment", "name"), WITH_BENCHMARK)
def test_it_can_be_run(environment: str, name: str) -> None:
    recipe: Any = parse(registry.recipe_type(name), RECIPES[environment, name], at=name)
    blocks = (recipe.benchmark, recipe.train, recipe.finetune, recipe.evaluate)
    comparison = Comparison(registry.get(name), *blocks, prepared=Path("prepared"), out=Path("out"))
    comparison.check()
    first, *others = comparison.pretrainings
    assert all(one.recipe.max_updates >= first.recipe.max_updates for one in others), "baselines get no less"
    assert len(comparison.config.objectives) > 1
