"""Models that are good for nothing are flagged, not registered, and not promoted even where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from d2v.config import parse
from d2v.evaluation.flags import read_flags
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import finetune
from d2v.lifecycle.lineage import register_finetuned_of
from d2v.lifecycle.promotion import PromotionInputs, decide_finetuned
from d2v.lifecycle.retraining import Plan
from d2v.modalities import registry
from d2v.tracker import NullTracker
from d2v.tracking import versions
from tests.lifecycle.retrainings import CLASSES, RECIPE, SIDE_PX, add_pictures

VISION: Any = registry.get("vision")
NAME = "d2v-vision-tuned"


class Tags(NullTracker):
    """Keeps tags."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags


@dataclass
class Tuned:
    """A fine-tuned and evaluated model."""

    root: Path
    recipe: Any
    measured: dict[str, float]
    tags: dict[str, str]

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def flags(self) -> dict[str, bool]:
        return {flag.name: flag.blocks for flag in read_flags(self.report)}

    def register(self, force: bool = False) -> str | None:
        config = self.recipe.finetune.model_copy(update={"register_flagged": force})
        folders = (self.root / name for name in ("corpus", "prepared", "run", "report"))
        with mlflow.start_run():
            return register_finetuned_of(VISION, config, *folders)

    def promote(self) -> Any:
        held_out = Plan.of(self.recipe).held_out(VISION, self.root / "prepared")
        return decide_finetuned(PromotionInputs(held_out, self.root / "corpus"))


def tune(root: Path, **changes: Any) -> Tuned:
    """Ingest `root/source`, fine-tune from random weights, and evaluate."""
    values = RECIPE["finetune"] | {"max_updates": 40, "start": "scratch"} | changes
    recipe = parse(VISION.recipe, RECIPE | {"ingest": {"source": str(root / "source")}, "finetune": values})
    VISION.ingest(recipe.ingest, root / "corpus")
    VISION.prepare(recipe.prepare, root / "corpus", root / "prepared")
    tracker = Tags()
    finetune(VISION, recipe.finetune, recipe.train, root / "prepared", None, root / "run")
    measured = evaluate_finetuned(VISION, recipe.finetune, root / "prepared", root / "run", root / "report", tracker)
    return Tuned(root, recipe, measured, tracker.tags)


def shuffled(source: Path) -> None:
    """Pictures whose classes are drawn, and have nothing to do with what they show."""
    random = np.random.default_rng(5)
    for part, count in (("train", 80), ("test", 160)):
        for number in range(count):
            add_pictures(source, part, 1, number, shift=int(random.integers(len(CLASSES))))


def one_in_90_percent(source: Path) -> None:
    """Noise, nine tenths of which are called bars."""
    random = np.random.default_rng(6)
    for part, count in (("train", 100), ("test", 100)):
        for number in range(count):
            folder = source / part / ("bars" if number % 10 else "dots")
            folder.mkdir(parents=True, exist_ok=True)
            noise = random.integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number:05d}.png")


@pytest.mark.parametrize("make", [shuffled, one_in_90_percent])
def test_a_useless_model_is_flagged_and_not_promoted(client: MlflowClient, tmp_path: Path, make: Any) -> None:
    make(tmp_path / "source")
    tuned = tune(tmp_path)
    assert tuned.flags["below_majority"]
    assert "it is not better than always naming the largest class" in tuned.tags["flags"]
    report = (tuned.report / "report.md").read_text()
    assert "FLAGGED: it is not better than" in report.split("|")[0]  # before the first table
    if make is one_in_90_percent:
        assert tuned.measured["eval/majority"] == pytest.approx(0.9)
        assert "it predicts 1 of 2 classes, never dots" in tuned.tags["flag.few_classes"]
    assert tuned.register() is None
    assert versions.find(NAME, "challenger") is None
    assert tuned.register(force=True) == "1"
    tags = client.get_model_version(NAME, "1").tags
    assert tags["flags"] == tuned.tags["flags"]
    decision = tuned.promote()
    assert decision.outcome == "kept"
    assert "flags of its report" in decision.why
    assert versions.find(NAME, "champion") is None


def test_a_good_model_has_no_flag_and_a_whole_report(client: MlflowClient, tmp_path: Path) -> None:
    add_pictures(tmp_path / "source", "train", 160, 0)
    add_pictures(tmp_path / "source", "test", 120, 0)
    tuned = tune(tmp_path, max_updates=120, validation={"every_updates": 20})
    assert tuned.measured["eval/accuracy"] > 0.8
    assert not any(tuned.flags.values())
    assert tuned.tags["flags"] == "none"
    files = {path.name for path in tuned.report.iterdir()}
    assert {"confusion.png", "reliability.png", "curves.png", "per_class.csv", "report.html", "flags.json"} <= files
    page = (tuned.report / "report.html").read_text()
    assert page.count("data:image/png") >= 4  # three plots, and at least one picture of a wrong answer
    table = pd.read_parquet(tuned.report / "predictions.parquet")
    assert set(table["split"]) == {"test"}
    assert table["file"].str.startswith("test/").all() or table["file"].str.contains(".png").all()
    kinds = table["file"].str.extract(f"({'|'.join(CLASSES)})")[0]
    assert (kinds == table["true_class"]).all()
    assert ((table["predicted_class"] == table["true_class"]).mean()) == pytest.approx(tuned.measured["eval/accuracy"])
    scores = np.stack(table["scores"].tolist())
    assert table["score"].to_numpy() == pytest.approx(scores.max(axis=1))
    assert tuned.register() == "1"
    assert client.get_model_version(NAME, "1").tags["flags"] == "none"
    assert tuned.promote().outcome == "promoted"
