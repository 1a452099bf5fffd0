"""MlflowTracker: what training logs arrives in the run, whoever opened it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from d2v.tracking.mlflow_tracker import MlflowTracker, flatten


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return mlflow.start_run().info.run_id


def test_metrics_keep_their_update(client: MlflowClient, run_id: str) -> None:
    tracker = MlflowTracker(run_id)
    for update in (50, 100):
        tracker.log_metrics({"train/loss": 1.0 / update, "perf/samples_per_s": 300.0}, update)
    history = client.get_metric_history(run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(50, 0.02), (100, 0.01)]


def test_values_that_are_not_finite_are_left_out(client: MlflowClient, run_id: str) -> None:
    MlflowTracker(run_id).log_metrics({"a/nan": float("nan"), "a/inf": float("inf"), "a/one": 1.0}, 1)
    assert client.get_run(run_id).data.metrics == {"a/one": 1.0}


def test_more_than_one_request_holds(client: MlflowClient, run_id: str) -> None:
    values = {f"key{number}": number for number in range(250)}
    MlflowTracker(run_id).log_params({"train": values})
    assert client.get_run(run_id).data.params == {f"train.{key}": str(value) for key, value in values.items()}


def test_files_folders_texts_and_tags(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "masks.png").write_bytes(b"png")
    tracker = MlflowTracker(run_id)
    tracker.log_artifact(folder / "masks.png", "one")
    tracker.log_artifact(folder, "all")
    tracker.log_text("seed: 0\n", "recipe/vision.yml")
    tracker.set_tags({"modality": "vision"})
    assert [item.path for item in client.list_artifacts(run_id, "one")] == ["one/masks.png"]
    assert [item.path for item in client.list_artifacts(run_id, "all")] == ["all/masks.png"]
    assert [item.path for item in client.list_artifacts(run_id, "recipe")] == ["recipe/vision.yml"]
    assert client.get_run(run_id).data.tags["modality"] == "vision"


def test_it_does_not_end_the_run(client: MlflowClient, run_id: str) -> None:
    tracker = MlflowTracker(run_id)
    assert tracker.run_id == run_id
    del tracker
    assert client.get_run(run_id).info.status == "RUNNING"


def test_flatten_keeps_empty_blocks_and_lists() -> None:
    values = {"a": {"b": [1, 2], "c": {}}, "d": None}
    assert list(flatten(values)) == [("a.b", "[1, 2]"), ("a.c", "{}"), ("d", "None")]
