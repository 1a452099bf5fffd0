"""An ingest on a cluster of processes: a scheduler and two workers, which are killed at any moment."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from d2v.config import ClusterConfig
from d2v.data.cluster.files import work_root
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import ingest
from d2v.data.url_paths import inside
from d2v.errors import LaunchError
from tests.conftest import ROOT
from tests.data.cluster_helpers import bucket_server, contents, deadly_source, processes, read_or_die, run

pytestmark = pytest.mark.slow
ITEMS = 400
KILLS = int(os.environ.get("D2V_KILLS", "2"))
"""Trials of each kind."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """The corpus of one process."""
    out = tmp_path_factory.mktemp("whole") / "c"
    run(out, ITEMS, None)
    return contents(out)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Its URL."""
    with bucket_server("kills"):
        yield "s3://kills/exchange"


@pytest.fixture(params=["a folder that all see", "a bucket"])
def exchange(request: pytest.FixtureRequest) -> str | None:
    """How the command and its workers give each other files."""
    return request.getfixturevalue("bucket") if request.param == "a bucket" else None


def start_driver(out: Path, scheduler: str, exchange: str | None = None, **streams: int) -> "subprocess.Popen[bytes]":
    arguments = [str(out), str(ITEMS), scheduler, exchange or "here"]
    command = [sys.executable, "-m", "tests.data.cluster_helpers", *arguments]
    return subprocess.Popen(command, cwd=ROOT, **{"stderr": subprocess.DEVNULL} | streams)


def pieces(out: Path, exchange: str | None = None) -> list[str]:
    """Names of the pieces that were read."""
    root = work_root(ClusterConfig(exchange=exchange), out.with_name(f".{out.name}.partial"))
    works = inside(root)
    return [said.name for work in works for said in inside(work / "pieces") if said.suffix == ".json"]


def wait_for_pieces(out: Path, count: int, exchange: str | None = None) -> None:
    """Until so many pieces were read."""
    deadline_s = time.monotonic() + 180
    while len(pieces(out, exchange)) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def some_pieces(seed: int) -> int:
    return random.Random(seed).randrange(1, ITEMS // 10 - 8)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_worker_loses_nothing(tmp_path, whole, seed, exchange):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address, exchange)
        wait_for_pieces(tmp_path / "c", some_pieces(seed), exchange)
        cluster.workers[seed % 2].send_signal(signal.SIGKILL)
        assert driver.wait(120) == 0
    assert contents(tmp_path / "c") == whole


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_killed_driver_the_same_command_goes_on(tmp_path, whole, seed, exchange):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address, exchange)
        wait_for_pieces(tmp_path / "c", some_pieces(10 + seed), exchange)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        run(tmp_path / "c", ITEMS, cluster.address, 0.01, exchange)
    assert contents(tmp_path / "c") == whole


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_scheduler_is_named_and_the_same_command_goes_on(tmp_path, whole, seed, exchange):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address, exchange)
        wait_for_pieces(tmp_path / "c", some_pieces(20 + seed), exchange)
        cluster.scheduler.send_signal(signal.SIGKILL)
        assert driver.wait(120) == 1  # the traceback of a LaunchError, as this driver is no command
    assert pieces(tmp_path / "c", exchange)
    with processes(tmp_path / "other") as cluster:
        run(tmp_path / "c", ITEMS, cluster.address, 0.01, exchange)
    assert contents(tmp_path / "c") == whole


def test_the_loss_of_a_scheduler_is_a_typed_error(tmp_path):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address, stderr=subprocess.PIPE)
        wait_for_pieces(tmp_path / "c", 3)
        cluster.scheduler.send_signal(signal.SIGKILL)
        said = driver.communicate(timeout=120)[1].decode()
    assert f"{LaunchError.__name__}: The dask scheduler at tcp://127.0.0.1" in said
    assert "the same command goes on" in said


def test_ctrl_c_ends_the_tasks_of_the_workers(tmp_path, whole):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address)
        wait_for_pieces(tmp_path / "c", 5)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(30) != 0
        time.sleep(2.5)
        done = len(pieces(tmp_path / "c"))
        time.sleep(1.0)
        assert len(pieces(tmp_path / "c")) == done < ITEMS // 10
        run(tmp_path / "c", ITEMS, cluster.address)
    assert contents(tmp_path / "c") == whole


def test_an_item_that_ends_its_worker_is_tried_alone_and_quarantined(tmp_path):
    """On a cluster of this machine, whose workers are started again; the same bytes as with readers that may die."""
    arguments = (("length",), tmp_path / "c", {"p": 1}, 200, 0.25)
    make = partial(deadly_source, 100)
    ingest(make(), read_or_die, *arguments, remote=Remote(make, ClusterConfig(workers=2, piece_items=10)))
    with (tmp_path / "c" / "quarantine.csv").open() as file:
        reasons = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons["deadly"] == "its decoder failed twice: it ended its process with SIGKILL"
    here = (("length",), tmp_path / "here", {"p": 1}, 200, 0.25)
    ingest(make(), read_or_die, *here, in_workers=True)
    assert contents(tmp_path / "c") == contents(tmp_path / "here")
