"""The processes behind the ranks of a training: those on this machine; `d2v.distributed.hosts` has those on others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import Any

from d2v.distributed.mailbox import Mailbox

WORKER = "d2v.distributed.worker"


class Launcher(ABC):
    """Processes, each in a session of its own, so that a terminal's Ctrl-C reaches only the supervisor.

    Attributes:
        host: this machine's address, under which the ranks find the store.
        listens_on: where the store listens; empty for all addresses.
        last_lines: what the launcher of other machines said last.
    """

    host = "127.0.0.1"
    listens_on = "127.0.0.1"
    last_lines = ""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[Any]] = []

    @abstractmethod
    def start(self, arguments: list[str]) -> None:
        """Start all ranks with the worker's arguments."""

    @abstractmethod
    def status_of(self, rank: int) -> int | None:
        """The exit status of a rank's process; None while it runs, and where it cannot be known."""

    @abstractmethod
    def stop(self, signal_name: str, mailbox: Mailbox) -> None:
        """Ask all ranks to save and end."""

    def is_running(self) -> bool:
        """Whether any process still runs."""
        return any(process.poll() is None for process in self._processes)

    def kill(self, mailbox: Mailbox) -> None:
        """End every process, and what it started in turn."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def _start(self, command: list[str], environment: dict[str, str], **options: Any) -> subprocess.Popen[Any]:
        """One process that finds what this one can import, and that writes its stack if it crashes below Python."""
        environment |= {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONFAULTHANDLER": "1",
        }
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, **options
        )
        self._processes.append(process)
        return process


class LocalLauncher(Launcher):
    """Ranks on this machine.

    Args:
        ranks: how many.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self._world_size = ranks

    def start(self, arguments: list[str]) -> None:
        shared = os.environ | {"WORLD_SIZE": str(self._world_size), "LOCAL_WORLD_SIZE": str(self._world_size)}
        if sys.platform == "linux":  # a laptop's own name often has no address
            shared.setdefault("GLOO_SOCKET_IFNAME", "lo")
        for rank in range(self._world_size):
            env = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            self._start([sys.executable, "-m", WORKER, *arguments], shared | env)

    def status_of(self, rank: int) -> int | None:
        return self._processes[rank].poll()

    def stop(self, signal_name: str, mailbox: Mailbox) -> None:
        for process in self._processes:
            process.send_signal(signal.Signals[signal_name])
