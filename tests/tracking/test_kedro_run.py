"""One MLflow run per Kedro run, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.conftest import ROOT, Command

SMALL = "vision.ingest.options.count=64,vision.ingest.options.test_count=32"
ENDLESS = "vision.ingest.options.count=5000000"


@pytest.fixture(autouse=True)
def store(scratch_environment: dict[str, str], empty_store: Path) -> MlflowClient:
    uri = scratch_environment["MLFLOW_TRACKING_URI"]
    Path(uri.removeprefix("sqlite:///")).write_bytes(empty_store.read_bytes())
    return MlflowClient(uri)


def runs(store: MlflowClient) -> list[Run]:
    experiment = store.get_experiment_by_name("d2v")
    return store.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]) if experiment else []


def listen_to_ctrl_c() -> None:
    """A shell's background job ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_endless_ingest(environment: dict[str, str], store: MlflowClient) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kedro", "run", "--pipeline=ingest_vision", "--params", ENDLESS]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,  # noqa: PLW1509  (no other thread runs here)
    )
    deadline = time.monotonic() + 60
    while not any(run.data.params for run in runs(store)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    while not any(Path(environment["D2V_DATA"]).rglob(".*.partial")):  # a signal while torch is imported aborts in C++
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


def test_a_run_is_quiet_and_says_what_it_was(
    kedro: Command, store: MlflowClient, scratch_environment: dict[str, str]
) -> None:
    done = kedro("run", "--pipeline=ingest_vision", "--params", SMALL)
    assert done.returncode == 0, done.stderr
    for noise in ("Warning", "deprecat", "alembic", "INFO", "Traceback"):
        assert noise not in done.stderr + done.stdout
    assert "[1/1] vision.ingest" in done.stderr
    page = Path(scratch_environment["D2V_DATA"]) / "08_reporting" / "vision_corpus" / "glyphs" / "report.html"
    assert f"look at the corpus before you train: {page}" in " ".join(done.stdout.split() + done.stderr.split())
    (run,) = runs(store)
    assert Path(store.download_artifacts(run.info.run_id, "corpus/report.html")).read_bytes() == page.read_bytes()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ingest_vision"
    assert run.data.tags["modality"] == "vision"
    assert run.data.tags["stage"] == "ingest"
    assert run.data.tags["git_commit"]
    assert run.data.tags["process"].startswith(f"{socket.gethostname()}:")
    assert run.data.params["ingest.source"] == "glyphs"
    assert run.data.params["ingest.options.count"] == "64"
    assert "ingest.test_fraction" in run.data.params, "defaults are part of what was run"
    kind = store.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development", "the UI shows runs and curves, not traces of prompts"
    recipe = yaml.safe_load(Path(store.download_artifacts(run.info.run_id, "recipe/vision.yml")).read_text())
    assert recipe["vision"]["ingest"]["options"]["count"] == 64

    again = kedro("run", "--pipeline=ingest_vision", "--params", SMALL)
    assert "nothing has changed: MLflow keeps the earlier run" in again.stderr
    assert [one.info.run_id for one in runs(store)] == [run.info.run_id]
    other = kedro("run", "--pipeline=ingest_vision", "--params", SMALL.replace("64", "66"))
    assert other.returncode == 0, other.stderr
    assert len(runs(store)) == 2


def test_a_derived_recipe_is_logged_as_it_was_resolved(kedro: Command, store: MlflowClient, tmp_path: Path) -> None:
    conf = tmp_path / "sources"
    shutil.copytree(ROOT / "conf" / "base", conf / "base")
    (conf / "mine").mkdir()
    changes = "base: base\n  ingest: {options: {count: 80, test_count: 40}}"
    (conf / "mine" / "parameters_vision.yml").write_text(f"vision:\n  {changes}\n")
    params = "vision.ingest.options.count=64"
    done = kedro("run", f"--conf-source={conf}", "--env=mine", "--pipelines=ingest_vision", "--params", params)
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    logged = {key: run.data.params[f"ingest.options.{key}"] for key in ("count", "test_count", "seed")}
    assert logged == {"count": "64", "test_count": "40", "seed": "2022"}
    recipe = yaml.safe_load(Path(store.download_artifacts(run.info.run_id, "recipe/vision.yml")).read_text())["vision"]
    assert "base" not in recipe
    assert recipe["train"]["optimizer"]["lr"] == 8e-3


def test_modalities_of_one_run_have_runs_of_their_own_below_it(kedro: Command, store: MlflowClient) -> None:
    done = kedro("run", "--pipelines=ingest_vision,ingest_text", "--params", SMALL)
    assert done.returncode == 0, done.stderr
    by_name = {run.info.run_name: run for run in runs(store)}
    assert len(by_name) == 3
    children = [by_name["vision"], by_name["text"]]
    (parent,) = [run for run in by_name.values() if run not in children]
    assert parent.data.tags["modality"] == "text,vision"
    for child, modality, source in zip(children, ("vision", "text"), ("glyphs", "pydocs"), strict=True):
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["modality"] == modality
        assert child.data.params["ingest.source"] == source
        assert child.info.status == parent.info.status == "FINISHED"


def test_a_mistake_fails_the_run(kedro: Command, store: MlflowClient) -> None:
    done = kedro("run", "--env=own_data", "--pipeline=ingest_vision", "--params", "vision.ingest.source=no/such/folder")
    assert done.returncode == 3
    assert "DataError" in done.stderr
    assert "Traceback" not in done.stderr
    (run,) = runs(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"].startswith("**DataError**: ")
    assert "no/such/folder" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_killed_not_finished(
    scratch_environment: dict[str, str], store: MlflowClient, number: signal.Signals, status: int
) -> None:
    process = start_endless_ingest(scratch_environment, store)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert [run.info.status for run in runs(store)] == ["KILLED"]


def test_the_next_run_closes_what_a_power_cut_left_open(
    scratch_environment: dict[str, str], kedro: Command, store: MlflowClient
) -> None:
    process = start_endless_ingest(scratch_environment, store)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert [run.info.status for run in runs(store)] == ["RUNNING"]
    kedro("run", "--pipeline=prepare_vision")
    assert sorted(run.info.status for run in runs(store)) == ["FAILED", "KILLED"]
