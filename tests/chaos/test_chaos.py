import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.chaos.trials import ROUNDS, plan
from tests.chaos.written import differences, written
from tests.conftest import ROOT


def test_at_least_two_hundred_trials_are_planned_and_no_two_alike() -> None:
    trials = plan(
        ["vision", "speech", "text"],
        ["ingest", "prepare", "pretrain", "finetune", "evaluate", "register", "promote"],
        0,
    )
    assert len(trials) >= 200
    assert len({trial.seed for trial in trials}) == len(trials)
    assert {trial.disturbance for trial in trials} == set(ROUNDS)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("create table model_versions (name, version)")
        store.execute("create table model_version_tags (name, version, key, value)")
        store.execute("create table registered_model_aliases (name, alias, version)")
        store.execute("insert into model_versions values ('m', 1)")
        store.execute("insert into model_version_tags values ('m', 1, 'accuracy', '0.5'), ('m', 1, 'run_id', 'a')")
    folder = tmp_path / "data" / "run"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"loss": 1.0, "seconds": 3.0}))
    (folder / "history.csv").write_text("update,train/loss,perf/step_ms\n1,0.5,17\n")
    save_file({"w": np.ones(2, np.float32)}, folder / "encoder.safetensors")
    return tmp_path


def test_times_are_no_difference_and_everything_else_is(project: Path) -> None:
    expected, run = written(project), project / "data" / "run"
    (run / "result.json").write_text(json.dumps({"loss": 1.0, "seconds": 4.0}))
    (run / "history.csv").write_text("update,train/loss,perf/step_ms\n1,0.5,18\n")
    assert differences(written(project), expected) == []
    (run / "history.csv").write_text("update,train/loss,perf/step_ms\n1,0.6,18\n")
    save_file({"w": np.full(2, 2.0, np.float32)}, run / "encoder.safetensors")
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as store, store:
        store.execute("insert into model_versions values ('m', 2)")
    (run / "result.json").unlink()
    (run / ".result.json.tmp").touch()
    assert differences(written(project), expected) == [
        "different data/run/encoder.safetensors",
        "different data/run/history.csv",
        "left over data/run/.result.json.tmp",
        "left over registry m version 2",
        "missing data/run/result.json",
    ]


@pytest.mark.slow
def test_disturbed_steps_of_one_modality_end_as_undisturbed_ones() -> None:
    """Every fourth trial of the first two steps; `make chaos` runs all."""
    command = [sys.executable, "-m", "tests.chaos", "--modalities", "text", "--steps", "ingest", "prepare"]
    ran = subprocess.run(
        [*command, "--every", "4", "--ranks", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
