"""The benchmark blocks of conf/ fit the blocks that they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from d2v.comparison.comparison import Comparison
from d2v.config import parse
from d2v.modalities import registry
from tests.conftest import ROOT

WITH_BENCHMARK = sorted(
    path for path in (ROOT / "conf").glob("*/parameters_*.yml") if "\n  benchmark:\n" in path.read_text()
)


def test_every_modality_has_one() -> None:
    assert {path.stem for path in WITH_BENCHMARK} == {f"parameters_{name}" for name in registry.MODALITIES}


@pytest.mark.parametrize(
    "path", WITH_BENCHMARK, ids=lambda path: path.parent.name + path.stem.removeprefix("parameters")
)
def test_it_can_be_run(path: Path) -> None:
    ((name, values),) = yaml.safe_load(path.read_text().replace("${globals:data_root}", "data")).items()
    recipe: Any = parse(registry.recipe_type(name), values, at=name)
    blocks = (recipe.benchmark, recipe.train, recipe.finetune, recipe.evaluate)
    comparison = Comparison(registry.get(name), *blocks, prepared=Path("prepared"), out=Path("out"))
    comparison.check()
    first, *others = comparison.pretrainings
    assert all(one.recipe.max_updates >= first.recipe.max_updates for one in others), "baselines get no less"
    assert len(comparison.config.objectives) > 1
