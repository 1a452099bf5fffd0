"""An ingest on a cluster of processes: a scheduler and two workers, which are killed at any moment."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from d2v.config import ClusterConfig
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import ingest
from d2v.errors import LaunchError
from tests.conftest import ROOT
from tests.data.cluster_helpers import contents, deadly_source, processes, read_or_die, run

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


def start_driver(out: Path, scheduler: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.data.cluster_helpers", str(out), str(ITEMS), scheduler]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for_pieces(out: Path, count: int) -> None:
    """Until so many pieces were read."""
    deadline_s = time.monotonic() + 60
    while len(list(out.parent.glob(f".{out.name}.cluster/*/pieces/*.json"))) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def some_pieces(seed: int) -> int:
    return random.Random(seed).randrange(1, ITEMS // 10 - 8)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_worker_loses_nothing(tmp_path, whole, seed):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address)
        wait_for_pieces(tmp_path / "c", some_pieces(seed))
        cluster.workers[seed % 2].send_signal(signal.SIGKILL)
        assert driver.wait(120) == 0
    assert contents(tmp_path / "c") == whole


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_killed_driver_the_same_command_goes_on(tmp_path, whole, seed):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address)
        wait_for_pieces(tmp_path / "c", some_pieces(10 + seed))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        run(tmp_path / "c", ITEMS, cluster.address, 0.01)
    assert contents(tmp_path / "c") == whole


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_scheduler_is_named_and_the_same_command_goes_on(tmp_path, whole, seed):
    with processes(tmp_path / "cluster") as cluster:
        driver = start_driver(tmp_path / "c", cluster.address)
        wait_for_pieces(tmp_path / "c", some_pieces(20 + seed))
        cluster.scheduler.send_signal(signal.SIGKILL)
        assert driver.wait(120) == 1  # the traceback of a LaunchError, as this driver is no command
        done = {path.name for path in tmp_path.glob(".c.cluster/*/pieces/*.json")}
    assert done
    with processes(tmp_path / "other") as cluster:
        run(tmp_path / "c", ITEMS, cluster.address, 0.01)
    assert contents(tmp_path / "c") == whole


def test_the_loss_of_a_scheduler_is_a_typed_error(tmp_path):
    with processes(tmp_path / "cluster") as cluster:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.data.cluster_helpers", str(tmp_path / "c"), str(ITEMS), cluster.address],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
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
        done = len(list(tmp_path.glob(".c.cluster/*/pieces/*.json")))
        time.sleep(1.0)
        assert len(list(tmp_path.glob(".c.cluster/*/pieces/*.json"))) == done < ITEMS // 10
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
