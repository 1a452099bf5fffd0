"""Clusters of processes, and folders as bytes. Run as a script it ingests made-up items on a cluster and can be killed:
`python -m tests.data.cluster_helpers <out> <count> <scheduler> <exchange>`; `here` is none."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from d2v.config import ClusterConfig
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import IngestReport, Record, ingest
from d2v.data.sources.source import Item, Source
from tests.conftest import ROOT
from tests.data.ingest_helpers import make_items, read

KILLER = b"killer"
ELSEWHERE = """
import sys

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith({unseen!r}):
        raise FileNotFoundError(f"{{arguments[0]}} is on another machine")

sys.addaudithook(refuse)
"""
START_S = 60.0


def contents(folder: Path) -> dict[str, str]:
    """File below a folder -> digest."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def threads_of_this_process(folder: Path, workers: int = 1) -> Iterator[str]:
    """The address of a cluster of threads, which starts in a second.

    Args:
        folder: for what dask writes.
    """
    loopback = "127.0.0.1:0"
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=2,
        processes=False,
        protocol="inproc",
        dashboard_address=loopback,
        worker_dashboard_address=loopback,
        local_directory=str(folder),
    ) as cluster:
        yield cluster.scheduler_address


@contextmanager
def bucket_server(bucket: str) -> Iterator[Any]:
    """A client of an S3 server of this process with an empty bucket. Keys and address are in the environment, as they
    are on a worker."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # those of another server's address
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=bucket)
        yield s3
    server.stop()


def slow_source(count: int, delay_s: float) -> Source:
    """Items that take their time."""

    def stream(start: int) -> Iterator[Item]:
        for item in make_items(count)[start:]:
            time.sleep(delay_s)
            yield item

    return Source("made up", f"{count}", count, stream)


def deadly_source(count: int) -> Source:
    """The same with one item whose reader ends its process."""

    def stream(start: int) -> Iterator[Item]:
        items = make_items(count)
        items[count // 2] = Item("deadly", KILLER)
        yield from items[start:]

    return Source("deadly", f"deadly {count}", count, stream)


def read_or_die(data: bytes) -> Record:
    """The reader of `ingest_helpers`, which one item ends as a decoder written in C can end it."""
    if data == KILLER:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(data)


def run(
    out: Path, count: int, scheduler: str | None, delay_s: float = 0.0, exchange: str | None = None
) -> IngestReport:
    """Ingest made-up items; without a scheduler in this process."""
    make = partial(slow_source, count, delay_s)
    config = ClusterConfig(scheduler=scheduler, piece_items=10, exchange=exchange)
    remote = Remote(make, config) if scheduler else None
    return ingest(make(), read, ("length",), out, {"p": 1}, 200, 0.25, remote=remote)


class Processes:
    """A scheduler and workers, each a process of its own.

    Args:
        folder: of their logs.
        workers: how many.
        unseen: a folder that workers cannot open a file of, as if they were other machines.
    """

    def __init__(self, folder: Path, workers: int = 2, unseen: Path | None = None) -> None:
        self.folder, self.running = folder, list[subprocess.Popen[bytes]]()
        self.preload = folder / "elsewhere.py"
        self.preload.write_text(ELSEWHERE.format(unseen=str(unseen)) if unseen else "")
        self.file = folder / "scheduler.json"
        self.start_scheduler()
        self.workers = [self.start_worker() for _ in range(workers)]

    @property
    def address(self) -> str:
        """Of the scheduler."""
        import json

        return str(json.loads(self.file.read_text())["address"])

    def start_scheduler(self, port: int = 0) -> None:
        """It waits until it is there."""
        self.file.unlink(missing_ok=True)
        arguments = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", *arguments, "--scheduler-file", str(self.file))
        deadline_s = time.monotonic() + START_S
        while not self.file.exists() or not self.file.read_text().endswith("}"):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """One with one thread, which nobody starts again."""
        arguments = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        name = f"worker{len(self.running)}"
        local = ["--local-directory", str(self.folder / name), "--preload", str(self.preload)]
        return self._start(
            name, "worker", "--scheduler-file", str(self.file), "--host", "127.0.0.1", *arguments, *local
        )

    def _start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments], cwd=ROOT, stdout=log, stderr=log, env=os.environ
            )
        self.running.append(process)
        return process

    def stop(self) -> None:
        """End all of them."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


@contextmanager
def processes(folder: Path, workers: int = 2, unseen: Path | None = None) -> Iterator[Processes]:
    """They end with the block."""
    folder.mkdir()
    started = Processes(folder, workers, unseen)
    try:
        yield started
    finally:
        started.stop()


if __name__ == "__main__":
    at, exchange = (None if given == "here" else given for given in sys.argv[3:5])
    run(Path(sys.argv[1]), int(sys.argv[2]), at, 0.01, exchange)
