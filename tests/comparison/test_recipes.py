"""The benchmark blocks of conf/ fit the blocks that they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2v.comparison.comparison import Comparison
from d2v.config import changed, parse, read_recipe
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionIngestConfig
from pipelines.steps.benchmark import benchmark
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
    own = changed(recipe.prepare, recipe.benchmark.prepare, at="prepare")
    for one in comparison.pretrainings:  # a recipe says whether its data have what its objective learns
        parse(registry.recipe_type(name), {**RECIPES[environment, name], "prepare": own, "train": one.recipe}, at=name)


def test_the_step_prepares_data_of_its_own_where_the_block_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("d2v.comparison.compare.benchmark", lambda comparison, _: seen.append(comparison.prepared))
    modality, recipe = (
        registry.get("vision"),
        parse(registry.recipe_type("vision"), RECIPES["base", "vision"], at="vision"),
    )
    modality.ingest(VisionIngestConfig(source="digits"), tmp_path / "corpus")
    modality.prepare(recipe.prepare, tmp_path / "corpus", tmp_path / "digits")
    rest = (recipe.train, recipe.finetune, recipe.evaluate, tmp_path / "corpus", tmp_path / "digits", tmp_path / "out")
    for change in ({}, {"store_px": 16}):
        config = recipe.benchmark
        benchmark("vision", config.model_copy(update={"prepare": change}), recipe.prepare, *rest)
    assert seen == [tmp_path / "digits", tmp_path / "out" / "prepared" / "digits"]
    assert modality.open(seen[1]).fingerprint != modality.open(seen[0]).fingerprint
