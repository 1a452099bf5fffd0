"""The whole way: encoders and a corpus to a registered and promoted space; what is done is not done again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import d2v
from d2v.alignment.run import evaluate_space, train_space
from d2v.config import parse
from d2v.config.alignment import AlignConfig
from d2v.errors import CheckpointError, DataError
from d2v.lifecycle.aligned import corpora_of, encode_corpora, encoders_of, promote_aligned, register_aligned
from d2v.lifecycle.rollback import versions_table
from d2v.lifecycle.verify import verify_registry
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.tracking import versions
from pipelines.pipeline_registry import register_pipelines
from tests.evaluation.fakes import Recorder
from tests.interchange import encoders
from tests.interchange.test_load import about
from tests.tracking.conftest import client, empty_store

__all__ = ["client", "empty_store"]
RECIPE = {
    "pairs": {"captions": {"first": "vision", "second": "text"}},
    "held_out": 0.4,
    "width": 8,
    "hidden": 16,
    "batch_size": 32,
    "max_updates": 30,
    "log_every_updates": 10,
    "bootstrap_resamples": 50,
}


def recipe(**changes: object) -> AlignConfig:
    return parse(AlignConfig, RECIPE | changes, at="align")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `corpora/<modality>` and `runs/<modality>/encoder`."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("vision", "text"):
        encoders.save(folder / "runs" / name / "encoder", name, 2, about=about(name))
    options = {"count": 90, "test_count": 60, "px": 16}
    registry.get("vision").ingest(VisionIngestConfig(source="glyphs", options=options), folder / "corpora" / "vision")
    return folder


def folders(made: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    return tuple({name: made / kind / name for name in ("vision", "text")} for kind in ("corpora", "runs"))


def align(made: Path, out: Path, config: AlignConfig) -> Recorder:
    corpora, runs = folders(made)
    tracker = Recorder()
    features = encode_corpora(config, corpora, runs, out / "features")
    train_space(config, features, encoders_of(config, runs), out / "run", tracker)
    evaluate_space(config, features, out / "run", out / "report", tracker)
    return tracker


def test_a_run_leaves_a_space_metrics_and_a_report_and_is_not_done_twice(made: Path, tmp_path: Path) -> None:
    tracker = align(made, tmp_path, recipe())
    logged = dict(tracker.rows)
    assert {"align/loss", "align/loss_captions", "align/scale", "align/lr"} <= logged[10].keys()
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    for direction in ("vision_to_text", "text_to_vision"):
        name = f"align/recall_at_5_captions_{direction}_new"
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
        assert 0.0 < metrics[f"{name}_chance"] < 1.0
        assert 0.0 <= metrics[f"{name}_baseline"] <= 1.0
    both = [metrics[f"align/recall_at_5_captions_{one}_new"] for one in ("vision_to_text", "text_to_vision")]
    assert metrics["align/recall_at_5"] == pytest.approx(np.mean(both))
    report = (tmp_path / "report" / "report.md").read_text()
    assert "| vision to text | captions |" in report
    assert "bag of words" in report
    with (tmp_path / "run" / "history.csv").open() as file:
        assert [row["update"] for row in csv.DictReader(file)] == ["10", "20", "30"]
    times = {
        file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file() and ".lock" not in file.name
    }
    assert not [row for row in align(made, tmp_path, recipe(log_every_updates=5)).rows if "align/loss" in row[1]]
    assert times == {file: file.stat().st_mtime_ns for file in times}
    align(made, tmp_path, recipe(seed=1))
    assert (tmp_path / "run" / "space" / "heads.safetensors").stat().st_mtime_ns not in times.values()


def test_a_space_is_registered_promoted_beaten_and_served(made: Path, tmp_path: Path, client: MlflowClient) -> None:
    corpora, _ = folders(made)

    def promoted(config: AlignConfig) -> tuple[str, str]:
        with mlflow.start_run():
            align(made, tmp_path, config)
            version = register_aligned(tmp_path / "run", tmp_path / "report")
            decision = promote_aligned(config, corpora, tmp_path / "features", tmp_path / "promotion", Recorder())
        return version, decision.outcome

    assert promoted(recipe(max_updates=1, features="plain")) == ("1", "promoted")
    assert promoted(recipe(max_updates=1, features="plain")) == ("1", "nothing")
    version, outcome = promoted(recipe(max_updates=2))
    assert (version, outcome) == ("2", "kept"), "two updates are no gain whose interval lies above zero"
    decision = json.loads((tmp_path / "promotion" / "decision.json").read_text())["d2v-aligned"]
    assert [check["name"] for check in decision["checks"]][:1] == ["held-out items that it was trained on"]
    assert decision["checks"][0]["challenger"] == "0"
    assert versions.find("d2v-aligned", "champion").number == 1
    assert any("d2v-aligned version 1" in row[0] for row in versions_table().rows)
    assert not [one for one in verify_registry() if one.changed]
    served = mlflow.pyfunc.load_model("models:/d2v-aligned@champion")
    found = served.predict(pd.DataFrame({"text": ["a red letter", "a blue digit"]}))
    models = d2v.load_aligned("models:/d2v-aligned@champion", device="cpu")
    np.testing.assert_allclose(
        found, models["text"].encode(["a red letter", "a blue digit"], space="aligned"), atol=1e-5
    )


def test_a_missing_encoder_and_a_missing_corpus_name_their_commands(made: Path, tmp_path: Path) -> None:
    corpora, runs = folders(made)
    with pytest.raises(CheckpointError, match="kedro run --pipeline=pretrain_text"):
        encoders_of(recipe(), runs | {"text": tmp_path})
    with pytest.raises(CheckpointError, match=r"align\.encoders\.text"):
        encoders_of(recipe(encoders={"text": str(tmp_path)}), runs)
    given = encoders_of(recipe(encoders={"text": str(made / "runs" / "text" / "encoder")}), runs | {"text": tmp_path})
    assert given["text"] == made / "runs" / "text" / "encoder"
    with pytest.raises(DataError, match="kedro run --pipeline=ingest_vision"):
        corpora_of(recipe(), corpora | {"vision": tmp_path})


def test_promotion_comes_after_registration_where_both_run() -> None:
    pipelines = register_pipelines()
    order = [node.name for node in pipelines["retrain_align"].nodes]
    steps = ("encode_pairs", "train_heads", "evaluate_aligned", "register_aligned", "promote_aligned")
    assert order == [f"align.{name}" for name in steps]
    for name in ("align", "promote_align"):
        free = {one for one in pipelines[name].inputs() if not one.startswith("params:")}
        assert all(one.endswith("_dir") or one == "align.features" for one in free)
