"""`torchrun ... kedro run`: every rank runs the command, rank 0 does everything and the others only train along."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from d2v import progress
from d2v.modalities.registry import MODALITIES
from d2v.tracking.mlflow_tracker import MlflowTracker
from pipelines.pipeline_registry import register_pipelines
from tests.conftest import ROOT

SMALL = {
    "vision.ingest.options.count": 128,
    "vision.ingest.options.test_count": 64,
    "vision.train.batch_size": 16,
    "vision.train.max_updates": 4,
    "vision.train.log_every_updates": 2,
    "vision.train.schedule.warmup_updates": 1,
    "vision.train.encoder.depth": 2,
    "vision.train.objective.targets.top_k_layers": 2,
    "vision.train.distributed.ranks": 2,
}


@pytest.fixture
def as_rank_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("as_rank_1")
def test_rank_1_has_the_same_pipelines_with_the_shared_steps_only() -> None:
    registered = register_pipelines()
    for modality in MODALITIES:
        assert [node.short_name for node in registered[f"pretrain_{modality}"].nodes] == ["train"]
        assert [node.short_name for node in registered[f"tune_{modality}"].nodes] == ["finetune"]
        assert registered[f"ingest_{modality}"].nodes == []
    assert len(registered["__default__"].nodes) == len(MODALITIES)


@pytest.mark.usefixtures("as_rank_1")
def test_rank_1_needs_nothing_that_rank_0_may_still_be_making() -> None:
    for pipeline in register_pipelines().values():
        data = {name for name in pipeline.inputs() if not name.startswith("params:")}
        assert all(name.endswith("_dir") for name in data)
        assert all(name.endswith("_unchecked") for name in pipeline.outputs())


def test_rank_0_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: len(pipeline.nodes) for name, pipeline in register_pipelines().items()}
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert {name: len(pipeline.nodes) for name, pipeline in register_pipelines().items()} == before


def test_a_muted_process_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_muted", False)
    progress.log("before")
    progress.mute()
    progress.log("after")
    with progress.Progress("train", 2) as bar:
        bar.advance(2)
    assert capsys.readouterr().err == "before\n"


def test_a_tracker_can_be_sent_to_another_process(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("d2v", (tmp_path / "artifacts").as_uri()))
    sent = pickle.loads(pickle.dumps(MlflowTracker(run.info.run_id, uri)))
    sent.log_metrics({"train/loss": 0.5}, 1)
    assert client.get_run(run.info.run_id).data.metrics == {"train/loss": 0.5}


@pytest.mark.slow
def test_two_commands_make_one_run(tmp_path: Path, scratch_environment: dict[str, str]) -> None:
    parameters = ",".join(f"{name}={value}" for name, value in SMALL.items())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--tee=3"]
    done = subprocess.run(
        [*torchrun, "-m", "kedro", "run", "--pipeline=pretrain_vision", "--params", parameters],
        cwd=ROOT,
        env=scratch_environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    said = done.stderr + done.stdout
    assert done.returncode == 0, said
    assert "train: finished 4 updates" in said
    assert not [line for line in said.splitlines() if "default1" in line], "rank 1 has nothing to say"
    client = MlflowClient(scratch_environment["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([client.get_experiment_by_name("d2v").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] > 0
