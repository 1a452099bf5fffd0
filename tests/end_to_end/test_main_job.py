"""`kedro run` does what the README says: all modalities on the embedded data. A quarter of an hour, so marked slow."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from d2v.modalities import registry
from tests.conftest import ROOT, environment_in

pytestmark = pytest.mark.slow
PICTURES = ("curves.png", "masks.png", "pca.png", "neighbours.png")
RECIPES = {"vision": "glyphs", "speech": "spoken", "text": "pydocs"}
CLEAR_MARGIN = 0.15


@dataclass(frozen=True)
class MainJob:
    """What the run printed and left."""

    printed: str
    data: Path
    store: MlflowClient

    def report(self, modality: str) -> Path:
        return self.data / "08_reporting" / modality / RECIPES[modality]

    def metrics(self, modality: str) -> dict[str, float]:
        return json.loads((self.report(modality) / "metrics.json").read_text())

    def runs(self) -> dict[str, Run]:
        """Runs by modality; that of the whole is under the names of all."""
        experiment = self.store.get_experiment_by_name("d2v")
        return {run.data.tags["modality"]: run for run in self.store.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    environment = environment_in(tmp_path_factory.mktemp("main_job"))
    del environment["OMP_NUM_THREADS"]
    command = [sys.executable, "-m", "kedro", "run"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=5400, check=False)
    assert done.returncode == 0, done.stderr
    store = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    return MainJob(done.stdout + done.stderr, Path(environment["D2V_DATA"]), store)


def test_it_is_quiet(job: MainJob) -> None:
    assert "Warning" not in job.printed


@pytest.mark.parametrize("modality", RECIPES)
def test_every_modality_has_its_table_and_its_pictures(job: MainJob, modality: str) -> None:
    for words in ("pretrained", "random weights", registry.get(modality).baseline_name):
        assert words in job.printed
    assert all((job.report(modality) / name).stat().st_size > 10_000 for name in PICTURES)
    assert {"probe/linear", "probe/knn", "probe/rank", "probe/linear_random"} <= job.metrics(modality).keys()


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_pretraining_beats_random_weights_clearly(job: MainJob, modality: str) -> None:
    metrics = job.metrics(modality)
    assert metrics["probe/linear"] - metrics["probe/linear_random"] >= CLEAR_MARGIN
    assert metrics["probe/linear_low"] > metrics["probe/linear_random_high"]


def test_pretraining_beats_pixels(job: MainJob) -> None:
    metrics = job.metrics("vision")
    assert metrics["probe/linear_low"] > metrics["probe/linear_baseline_high"]


@pytest.mark.parametrize("modality", RECIPES)
def test_no_representation_collapsed(job: MainJob, modality: str) -> None:
    assert job.metrics(modality)["probe/rank"] > 5.0


@pytest.mark.parametrize("modality", RECIPES)
def test_the_experiment_can_be_compared(job: MainJob, modality: str) -> None:
    runs = job.runs()
    parent, child = runs["speech,text,vision"], runs[modality]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {"train/loss", "train/target_std", "probe/linear", "perf/samples_per_s"} <= child.data.metrics.keys()
    assert "train.optimizer.lr" in child.data.params
    challenger = job.store.get_model_version_by_alias(f"d2v-{modality}", "challenger")
    assert challenger.run_id == child.info.run_id
    assert child.data.metrics["probe/linear"] == pytest.approx(job.metrics(modality)["probe/linear"])


def test_text_knows_about_order(job: MainJob) -> None:
    """By 30 points more than random weights, and than a bag of words, which cannot tell the two sentences apart."""
    metrics = job.metrics("text")
    assert metrics["probe/forced_choice_low"] > metrics["probe/forced_choice_random_high"]
    assert metrics["probe/forced_choice"] - metrics["probe/forced_choice_random"] >= 0.3
    assert metrics["probe/forced_choice"] - 0.5 >= 0.3
    assert "forced choice" in job.printed
