"""`d2v serve` as a process: load, memory, a promotion in the middle, signals."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.interchange import encoders
from tests.serving import load

pytestmark = pytest.mark.slow

BODY = 65_536
START = (sys.executable, "-c", "from d2v.cli import run; run()", "serve", "--port", "0", "--device", "cpu")


@dataclass
class Served:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    @property
    def bytes_in_memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=60) as response:
            return response.read().decode()


@contextmanager
def serving(model: str, log: Path, *options: str, **variables: str) -> Iterator[Served]:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "OMP_NUM_THREADS": "1", **variables}
    with log.open("w") as file:
        process = subprocess.Popen([*START, model, *options], env=environment, stderr=file)
    try:
        yield Served(process, _address(process, log), log)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_3000_mixed_requests_and_a_promotion(two_versions: Callable[[int], None], tmp_path: Path) -> None:
    """Every right request is answered with 200, every wrong one with its reason, and memory is as before."""
    options = ("--max-body-bytes", str(BODY), "--reload", "0.2")
    with serving("models:/d2v-text@champion", tmp_path / "log", *options) as served:
        load.run(served.address, requests=400, seed=1)
        before = served.bytes_in_memory
        result = load.run(served.address, halfway=lambda: two_versions(2))
        after = served.bytes_in_memory
        assert sum(result.statuses.values()) == load.REQUESTS
        assert result.wrong == {}, load.table(result)
        assert {0, 500}.isdisjoint(result.of_status), load.table(result)
        assert result.models.keys() == {"models:/d2v-text/1", "models:/d2v-text/2"}
        assert after < 1.1 * before, (before, after)
        assert "d2v_serve_in_flight 0\n" in served.get("/metrics")
        assert json.loads(served.get("/health"))["model"] == "models:/d2v-text/2"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_memory_of_large_images_is_given_back(tmp_path: Path) -> None:
    folder = encoders.save(tmp_path / "encoder", "vision", 2)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)).save(file, "JPEG")
    large = json.dumps({"inputs": [base64.b64encode(file.getvalue()).decode()] * 3}).encode()
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    small = json.dumps({"inputs": [base64.b64encode(file.getvalue()).decode()]}).encode()
    with serving(str(folder), tmp_path / "log") as served:
        for _ in range(10):
            post(served.address, small)
        before = served.bytes_in_memory
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(post, [served.address] * 16, [large] * 16)) == {200}
        end = time.monotonic() + 60
        while served.bytes_in_memory > 1.1 * before:
            assert time.monotonic() < end, (before, served.bytes_in_memory)
            time.sleep(0.5)


def post(address: str, body: bytes) -> int:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=100) as response:
        response.read()
        return int(response.status)


def test_overload_is_answered_at_once(two_versions: Callable[[int], None], tmp_path: Path) -> None:
    """More clients than the server takes: each request is answered, or told to come again; none waits without end."""
    options = ("--max-body-bytes", str(BODY), "--computed", "1", "--waiting", "1")
    with serving("models:/d2v-text@champion", tmp_path / "log", *options) as served:
        result = load.run(served.address, requests=1000, clients=16)
        statuses = result.of_status
        assert statuses.keys() <= {200, 400, 404, 405, 413, 415, 503}, load.table(result)
        assert statuses[200] > 0
        assert statuses[503] > 0


def test_a_sender_of_a_large_body_sees_why(folder: Path, tmp_path: Path) -> None:
    with serving(str(folder), tmp_path / "log", D2V_SERVE_MAX_BODY_BYTES=str(BODY)) as served:
        body = b" " * (80 * BODY)
        request = urllib.request.Request(f"{served.address}/invocations", body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert refused.value.code == 413
        assert "above 65,536 bytes" in json.load(refused.value)["message"]


def test_what_was_asked_is_answered_after_sigterm(folder: Path, tmp_path: Path) -> None:
    with serving(str(folder), tmp_path / "log") as served:
        host, port = served.address.removeprefix("http://").split(":")
        body = json.dumps({"inputs": ["to be"]}).encode()
        with socket.create_connection((host, int(port)), timeout=60) as plug:
            head = "POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            plug.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
            while "d2v_serve_in_flight 1\n" not in served.get("/metrics"):
                time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            while "Shutting down" not in served.log.read_text():
                time.sleep(0.01)
            plug.sendall(body[5:])
            assert plug.makefile().readline().startswith("HTTP/1.1 200")
        assert served.process.wait(60) == 0


def test_sighup_looks_at_once(two_versions: Callable[[int], None], tmp_path: Path) -> None:
    options = ("--max-body-bytes", str(BODY), "--reload", "0")
    with serving("models:/d2v-text@champion", tmp_path / "log", *options) as served:
        two_versions(2)
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(load.run, served.address, 400)
            served.process.send_signal(signal.SIGHUP)
            while "models:/d2v-text/2 is served" not in served.log.read_text():
                assert served.process.poll() is None
                time.sleep(0.01)
            assert result.result().wrong == {}
        assert json.loads(served.get("/health"))["model"] == "models:/d2v-text/2"


def test_an_address_that_is_taken(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [*START, str(folder), "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 6
    assert "LaunchError: The server cannot listen at 127.0.0.1" in ended.stderr
    assert "Traceback" not in ended.stderr
