"""`dvc repro` over all stages with recipes of seconds, and what one does with it afterwards. Each test goes on from
where the one before it left the checkout."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from mlflow.tracking import MlflowClient
from moto.server import ThreadedMotoServer

from d2v.modalities.registry import MODALITIES
from tests.dvc.checkout import Checkout, make_checkout
from tests.dvc.test_fast import KEY

pytestmark = pytest.mark.slow
STEPS = ("recipe", "ingest", "prepare", "train", "finetune", "evaluate")
RUN = "data/06_models/vision/glyphs"
METRICS = "data/08_reporting/vision/glyphs/metrics.json"


def ran(printed: str) -> set[str]:
    """The stages that ran."""
    start = "Running stage '"
    return {line.removeprefix(start).rstrip("':") for line in printed.splitlines() if line.startswith(start)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All stages have run, and that is committed with its metrics."""
    made = make_checkout(tmp_path_factory.mktemp("dvc"))
    assert ran(made.dvc("repro", timeout_s=1800)) == {f"{step}@{modality}" for step in STEPS for modality in MODALITIES}
    made.run("sh", "-c", "git add --force data/08_reporting/*/*/metrics.json")
    made.commit()
    return made


def test_the_second_time_nothing_runs(checkout: Checkout) -> None:
    assert "Data and pipelines are up to date." in checkout.dvc("repro")
    assert not checkout.run("git", "status", "--porcelain")


def test_a_finished_training_leaves_no_checkpoints(checkout: Checkout) -> None:
    assert not list((checkout.folder / "data" / "06_models").rglob("checkpoints"))


def test_a_neutral_key_reruns_the_recipe_alone(checkout: Checkout) -> None:
    checkout.set("vision", {"train.log_every_updates": 3})
    assert ran(checkout.dvc("repro")) == {"recipe@vision"}
    checkout.commit()


def test_a_parameter_reruns_what_depends_on_it(checkout: Checkout) -> None:
    checkout.set("vision", {"evaluate.knn_k": 5})
    assert ran(checkout.dvc("repro")) == {"recipe@vision", "evaluate@vision"}
    assert "belongs_to.evaluate.knn_k" in checkout.dvc("metrics", "diff")
    checkout.commit()


def test_changed_code_trains_anew_and_restored_code_brings_the_old_weights_back(checkout: Checkout) -> None:
    before = (checkout.folder / RUN / "result.json").read_text()
    source = checkout.folder / "src" / "d2v" / "objectives" / "data2vec2.py"
    content = source.read_text()
    source.write_text(f"{content}\n")
    assert "train@vision" in ran(checkout.dvc("repro", "train@vision"))
    assert (checkout.folder / RUN / "result.json").read_text() != before
    source.write_text(content)
    assert not ran(checkout.dvc("repro", "train@vision"))
    assert (checkout.folder / RUN / "result.json").read_text() == before


def test_curves_and_pictures_are_drawn(checkout: Checkout) -> None:
    checkout.dvc("plots", "show", "--out", "drawn")
    page = (checkout.folder / "drawn" / "index.html").read_text()
    for word in ("pretraining loss", "online linear probe", "fine-tuning loss", "masks.png", '"train/loss"'):
        assert word in page


def test_an_experiment_is_kept_beside_the_branch(checkout: Checkout) -> None:
    change = "conf/base/parameters_vision.yml:vision.evaluate.bootstrap_resamples=90"
    checkout.dvc("exp", "run", "--name", "seven", "--set-param", change, "evaluate@vision")
    shown = json.loads(checkout.dvc("exp", "show", "--json"))
    assert "seven" in json.dumps(shown)
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.dvc("checkout")


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_training_goes_on(checkout: Checkout, by: signal.Signals) -> None:
    checkout.set("vision", {"train.max_updates": 400, "train.seed": int(by)})
    process = checkout.start("dvc", "repro", "train@vision")
    wait_for(checkout.folder / RUN / "checkpoints" / "update-00000020", process)
    stop(process, by)
    assert not (checkout.folder / RUN / "result.json").exists()
    printed = checkout.dvc("repro", "train@vision")
    assert "resumed after update" in printed
    assert json.loads((checkout.folder / RUN / "result.json").read_text())["updates"] == 400


def wait_for(path: Path, process: subprocess.Popen[str], timeout_s: float = 300) -> None:
    """Until something is there."""
    until = time.monotonic() + timeout_s
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.2)


def stop(process: subprocess.Popen[str], by: signal.Signals) -> None:
    """A signal to DVC and everything it started, as a job scheduler or a lost terminal sends it."""
    started = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, by)
    process.communicate(timeout=120)
    for child in started:
        if psutil.pid_exists(child.pid):
            child.send_signal(by)
    psutil.wait_procs(started, timeout=120)


# ------------------------------------------------------------------------------------- artifacts in a bucket


def bucket_client(store: dict[str, str]) -> Any:
    """boto3's client of the S3 server."""
    return boto3.client(
        "s3",
        endpoint_url=store["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
        region_name=store["AWS_DEFAULT_REGION"],
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment variables that point to an MLflow server on loopback, which keeps artifacts in S3."""
    bucket = ThreadedMotoServer(port=0, verbose=False)
    bucket.start()
    store = KEY | {"MLFLOW_S3_ENDPOINT_URL": "http://{}:{}".format(*bucket.get_host_and_port())}
    bucket_client(store).create_bucket(Bucket="runs")
    port = free_port()
    words = ["mlflow", "server", "--port", str(port), "--workers", "1", "--artifacts-destination", "s3://runs"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    environment = Checkout(tmp_path, tmp_path).environment | store
    with (tmp_path / "server.log").open("wb") as log:  # a pipe that nobody reads would stop the server once it is full
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield store | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "D2V_ARTIFACTS": "mlflow-artifacts:/"}
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)
    bucket.stop()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_runs_go_to_a_server_and_their_files_to_a_bucket(checkout: Checkout, server: dict[str, str]) -> None:
    checkout.run("kedro", "run", "--env=base", "--pipelines=evaluate_vision", **server)
    client = MlflowClient(server["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("d2v")
    (run,) = client.search_runs([experiment.experiment_id])
    assert "probe/linear" in run.data.metrics
    listed = [entry["Key"] for entry in bucket_client(server).list_objects_v2(Bucket="runs")["Contents"]]
    assert any(key.endswith("report/metrics.json") for key in listed)
    assert any("encoder" in key for key in listed), "the registered model's files"
