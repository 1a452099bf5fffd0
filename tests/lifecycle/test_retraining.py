"""Nights of retraining: better data make a champion, broken labels do not, and no data cost nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient

from d2v.errors import CheckpointError, Interrupted
from d2v.lifecycle.retraining_report import RetrainingRun
from d2v.lifecycle.rollback import roll_back, versions_table
from d2v.tracker import NullTracker
from d2v.tracking import versions
from tests.conftest import ROOT, environment_in
from tests.lifecycle.retrainings import RECIPE, add_pictures, retrain_once

GOOD, MORE, BROKEN = (16, 0), (304, 16), (600, 320, 1)
"""Arguments of `add_pictures` for the train part."""
TUNED = "d2v-vision-tuned"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    add_pictures(tmp_path / "source", "test", 160, 0)
    return tmp_path / "source"


@pytest.fixture
def retraining(client: MlflowClient, source: Path, tmp_path: Path) -> Callable[..., RetrainingRun]:
    def run(*pictures: int, **changes: Any) -> RetrainingRun:
        if pictures:
            add_pictures(source, "train", *pictures)
        with mlflow.start_run():
            return retrain_once(source, tmp_path, **changes)

    return run


def champion(name: str = TUNED) -> int | None:
    found = versions.find(name, "champion")
    return found.number if found else None


def outcomes(retraining: RetrainingRun) -> dict[str, str]:
    return {decision.model: decision.outcome for decision in retraining.decisions}


class StopsFineTuning(NullTracker):
    """Ctrl-C when fine-tuning logs for the first time."""

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        if "train/task_loss" in metrics:
            raise Interrupted("stopped by the test")


def test_four_retrainings(retraining: Callable[..., RetrainingRun], source: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        retraining(*GOOD, tracker=StopsFineTuning())
    assert (champion("d2v-vision"), champion()) == (1, None)
    decided = json.loads((tmp_path / "promotion" / "decision.json").read_text())
    assert decided["d2v-vision"]["outcome"] == "promoted", "what was decided before the stop is on record"
    assert outcomes(retraining()) == {TUNED: "promoted"}  # the same command goes on
    assert len(list(tmp_path.glob("work/encoder-*"))) == 1

    more = retraining(*MORE)
    assert outcomes(more)[TUNED] == "promoted"
    assert (champion(), versions.find(TUNED, "previous").number) == (2, 1)
    trained = [json.loads(path.read_text()) for path in tmp_path.glob("work/encoder-*/run/encoder/config.json")]
    assert {one["recipe"]["start"] for one in trained} == {None, "models:/d2v-vision/1"}

    broken = retraining(*BROKEN)
    assert outcomes(broken)[TUNED] == "kept"
    assert champion() == 2
    assert "gain in accuracy" in versions.find(TUNED, "challenger").tags["promotion"]

    check_nothing_new(retraining, tmp_path)
    check_waiting(retraining, tmp_path)
    correct_a_label(source)
    assert list(outcomes(retraining())) == [TUNED]  # the encoder does not look at labels
    check_rollback()


def check_nothing_new(retraining: Callable[..., RetrainingRun], tmp_path: Path) -> None:
    assert untouched(retraining, tmp_path).outcome == "nothing new"


def check_waiting(retraining: Callable[..., RetrainingRun], tmp_path: Path) -> None:
    """A few new pictures are kept for later where training waits for more of them, or for a drift."""
    add_pictures(tmp_path / "source", "train", 4, 5000)
    assert untouched(retraining, tmp_path, min_new_items=5).outcome == "too few"
    assert untouched(retraining, tmp_path, on="drift").outcome == "drift unknown"  # of four nothing can be said
    for number in range(5000, 5004):
        next((tmp_path / "source" / "train").rglob(f"{number:05d}.png")).unlink()


def untouched(retraining: Callable[..., RetrainingRun], tmp_path: Path, **changes: Any) -> RetrainingRun:
    """A run that trains and registers nothing, and says so."""
    before = [str(one) for one in versions.all_versions()], sorted(tmp_path.glob("work/*"))
    found = retraining(**changes)
    assert ([str(one) for one in versions.all_versions()], sorted(tmp_path.glob("work/*"))) == before
    assert not found.costs
    assert "nothing was trained" in (tmp_path / "retraining" / "report.md").read_text()
    return found


def correct_a_label(source: Path) -> None:
    moved = next((source / "train").glob("*/*.png"))
    other = next(folder for folder in (source / "train").iterdir() if folder != moved.parent)
    moved.rename(other / moved.name)


def check_rollback() -> None:
    assert roll_back(TUNED) == f"{TUNED} version 1 is the champion again; version 2 has the alias previous"
    assert "rolled back" in versions.version_number(TUNED, 2).tags["promotion"]
    roll_back(TUNED)
    assert champion() == 2
    roll_back(TUNED, to=3)
    assert champion() == 3
    assert "already" in roll_back(TUNED, to=3)
    assert {row[0]: row[1] for row in versions_table().rows}[f"{TUNED} version 3"] == "champion"
    with pytest.raises(CheckpointError, match=r"no version 9: .*d2v models"):
        roll_back(TUNED, to=9)
    with pytest.raises(CheckpointError, match="no champion to roll back"):
        roll_back("d2v-speech")


@pytest.mark.slow
def test_retrainings_by_the_command(source: Path, tmp_path: Path) -> None:
    """The same through `kedro run`, with one MLflow run each time and its report among the artifacts."""
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf" / "base", conf / "base")
    recipe = {"vision": RECIPE | {"ingest": {"source": str(source)}}}
    (conf / "base" / "parameters_vision.yml").write_text(yaml.safe_dump(recipe))
    environment = environment_in(tmp_path)
    command = [sys.executable, "-m", "kedro", "run", f"--conf-source={conf}", "--pipeline=retrain_vision"]
    found = []
    for pictures in (GOOD, MORE, BROKEN, ()):
        if pictures:
            add_pictures(source, "train", *pictures)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report = tmp_path / "data" / "08_reporting" / "vision_retraining" / "glyphs" / "retraining.json"
        decided = json.loads(report.read_text())["decisions"]
        found.append({one["model"]: one["outcome"] for one in decided}.get(TUNED))
    assert found == ["promoted", "promoted", "kept", None]
    store = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    runs = store.search_runs([store.get_experiment_by_name("d2v").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.data.tags["retraining"] for run in parents] == ["nothing new", "trained", "trained", "trained"]
    assert "retraining/report.html" in [
        file.path for file in store.list_artifacts(parents[1].info.run_id, "retraining")
    ]
    assert os.listdir(tmp_path / "data" / "08_reporting" / "vision_promotion" / "glyphs")
