"""MLflow's own pages, in a browser, on the project's own runs: what docs/compare.md tells people to open."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.conftest import ROOT, environment_in

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TINY = "max_updates=30,vision.train.log_every_updates=5,vision.train.probe_every_updates=15"
DATA = "vision.ingest.options.count=400,vision.ingest.options.test_count=150"

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two trainings that differ in the learning rate, each by `kedro run`."""
    values = environment_in(tmp_path_factory.mktemp("runs"))
    for number, lr in enumerate((8e-3, 8e-4)):
        data = f"{values['D2V_DATA']}/{number}"
        params = f"{DATA},vision.train.{TINY},vision.train.optimizer.lr={lr:g}"
        command = [sys.executable, "-m", "kedro", "run", "--pipelines=ingest_vision,prepare_vision,train_vision"]
        subprocess.run([*command, f"--params={params}"], cwd=ROOT, env={**values, "D2V_DATA": data}, check=True)
    return values


@pytest.fixture(scope="module")
def runs(environment: dict[str, str]) -> list[Run]:
    store = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    return store.search_runs([store.get_experiment_by_name("d2v").experiment_id])


@pytest.fixture(scope="module")
def address(environment: dict[str, str]) -> Iterator[str]:
    """Of `mlflow ui` on those runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", environment["MLFLOW_TRACKING_URI"]]
    command = [sys.executable, "-m", "mlflow", "ui", *store, "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address)
            yield address
        finally:
            os.killpg(server.pid, 15)


def wait_for(address: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.5)
        else:
            return


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="install the extra: pip install 'd2v[browser]'")
    with playwright.sync_playwright() as driver:
        shown = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield shown.new_page(viewport={"width": 1500, "height": 1100})
        shown.close()


def test_charts_of_all_runs_stand_in_sections(page: Any, address: str, runs: list[Run], tmp_path: Path) -> None:
    page.goto(f"{address}/#/experiments/{runs[0].info.experiment_id}/runs?compareRunsMode=CHART")
    search = page.get_by_placeholder("Search metric charts")
    search.wait_for(timeout=60_000)
    page.get_by_text("ingest_vision+prepare_vision+train_vision").nth(len(runs) - 1).wait_for(timeout=60_000)
    for metric in ("train/loss", "train/target_std", "online/linear", "perf/samples_per_s", "features/final_rank"):
        search.fill(metric)
        page.get_by_text(metric, exact=True).first.wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "charts.png")


def test_two_runs_side_by_side(page: Any, address: str, runs: list[Run], tmp_path: Path) -> None:
    chosen = {"runs": [run.info.run_id for run in runs], "experiments": [runs[0].info.experiment_id]}
    page.set_viewport_size({"width": 1500, "height": 5000})  # rows out of sight are not there
    page.goto(f"{address}/#/compare-runs?{urllib.parse.urlencode({k: json.dumps(v) for k, v in chosen.items()})}")
    page.get_by_text(f"Comparing {len(runs)} Runs").first.wait_for(timeout=60_000)
    page.get_by_text("train.optimizer.lr").first.wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "compare.png")
    for metric in ("features/final_rank", "online/linear", "perf/samples_per_s", "train/grad_norm"):
        page.get_by_text(metric, exact=True).first.wait_for(timeout=60_000)
    text = page.inner_text("body")
    assert "0.008" in text
    assert "0.0008" in text
