"""Starts the ranks of a training, passes signals on, turns a rank's death into one error, and leaves no process."""

from __future__ import annotations

import pickle
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from d2v.config import DistributedConfig
from d2v.distributed.environment import LOGS
from d2v.distributed.hosts import HostLauncher
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launcher import Launcher, LocalLauncher
from d2v.distributed.mailbox import RESUME, Cause, Mailbox, Outcome
from d2v.distributed.worker import log_of
from d2v.errors import ConfigError, D2vError, Interrupted, LaunchError

_POLL_S = 0.1
_END_S = 10.0
"""How long ranks may take to end after their call has returned."""
_TYPED_S = 15.0
"""How long the others may take after a rank's own error: they often raise it too, and may be writing files."""
_DEATH_S = 3.0
"""How long they may take after a death: long enough to tell why, if they know better."""
_MEMORY = (
    "If the system ran out of memory, it kills the largest process: lower train.batch_size, or raise "
    "train.accumulation_steps or train.distributed.zero_stage. "
)


class Supervisor:
    """Runs one call on all ranks; see `d2v.distributed.launch.launch`.

    It passes the first signal on and kills everything at the second.

    Args:
        config: how many ranks, and where.
        folder: gets the ranks' logs.
    """

    def __init__(self, config: DistributedConfig, folder: Path) -> None:
        self._world_size = config.ranks
        self._launcher: Launcher = (
            HostLauncher(Path(config.hostfile)) if config.hostfile else LocalLauncher(config.ranks)
        )
        self._logs = folder.absolute() / LOGS
        self._outcomes: dict[int, Outcome] = {}
        self._passed_on: str | None = None
        self._end_s = float("inf")

    def run(self, target: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """What rank 0 returned.

        Raises:
            ConfigError: target or arguments cannot be pickled.
            LaunchError: a rank died or hangs.
            D2vError: what a rank raised.
        """
        call = _pickled(target, arguments)
        store = _open_store(self._launcher.listens_on, self._launcher.host)
        self._mailbox = Mailbox(store)
        self._mailbox.put_call(call)
        try:
            with Interrupts() as interrupts:
                self._launcher.start(["--store", f"{self._launcher.host}:{store.port}", "--logs", str(self._logs)])
                self._watch(interrupts)
        finally:
            self._launcher.kill(self._mailbox)
        self._note_silent()
        return self._result(interrupts.requested)

    def _watch(self, interrupts: Interrupts) -> None:
        """Until all ended, or until those that have not had their time to."""
        while self._launcher.is_running():
            if interrupts.requested and self._passed_on is None:
                self._passed_on = interrupts.requested
                self._launcher.stop(interrupts.requested, self._mailbox)
            self._collect()
            if time.monotonic() > self._end_s:
                return
            time.sleep(_POLL_S)
        self._collect()

    def _collect(self) -> None:
        """Note how ranks ended. A process is polled before its outcome is looked for, so what it told is found."""
        for rank in set(range(self._world_size)) - set(self._outcomes):
            status = self._launcher.status_of(rank)
            outcome = self._mailbox.outcome(rank)
            if outcome is None and status is not None:
                outcome = self._untold(rank, status)
            if outcome is not None:
                self._outcomes[rank] = outcome
                self._end_s = min(self._end_s, time.monotonic() + _patience(outcome))
        if len(self._outcomes) == self._world_size:
            self._end_s = min(self._end_s, time.monotonic() + _END_S)

    def _untold(self, rank: int, status: int) -> Outcome:
        """The outcome of a rank whose process ended without a word."""
        where = self._mailbox.where(rank)
        if status >= 0:
            return Outcome(rank, Cause.VANISHED, headline=f"rank {rank} ended with exit status {status}, {where}")
        killer = signal.Signals(-status)
        if killer.name == self._passed_on:  # it had not begun to listen
            return Outcome(rank, Cause.STOPPED)
        cause = Cause.VANISHED if killer is signal.SIGABRT else Cause.KILLED
        return Outcome(rank, cause, headline=f"rank {rank} was killed by {killer.name}, {where}")

    def _note_silent(self) -> None:
        """Ranks on other machines that told nothing: of them only the launcher's last lines may tell."""
        told = [
            rank in self._outcomes or self._launcher.status_of(rank) is not None for rank in range(self._world_size)
        ]
        silent = [rank for rank in range(self._world_size) if not told[rank]]
        if silent:
            who = ", ".join(f"rank {rank} ({self._mailbox.where(rank)})" for rank in silent)
            headline = f"ended without a word: {who}. The last lines of the machines' launcher:"
            self._outcomes[silent[0]] = Outcome(
                silent[0], Cause.VANISHED, headline=headline, stack=self._launcher.last_lines
            )

    def _result(self, requested: str | None) -> Any:
        failures = [outcome for outcome in self._outcomes.values() if outcome.cause is not None]
        if failures:
            raise self._error(min(failures, key=lambda o: (o.cause, not o.accused, o.order)))
        if requested is not None:
            raise Interrupted(f"Stopped by {requested} as the ranks were done. The same command goes on.", requested)
        return self._outcomes[0].result

    def _error(self, outcome: Outcome) -> D2vError:
        if outcome.error is not None:
            return outcome.error
        if outcome.cause is Cause.STOPPED:
            by = self._passed_on or "SIGINT"
            return Interrupted(f"Stopped by {by} before training began. The same command goes on.", by)
        memory = _MEMORY if signal.SIGKILL.name in outcome.headline else ""
        log = f" {log_of(self._logs, outcome.rank)} holds what it said." if outcome.rank else ""
        return LaunchError(f"{outcome.headline}\n{outcome.stack}{memory}{RESUME}{log}")


def _patience(outcome: Outcome) -> float:
    """Seconds that the other ranks have left after this outcome."""
    if outcome.cause is None or isinstance(outcome.error, Interrupted):
        return float("inf")
    return _TYPED_S if outcome.error is not None or outcome.cause is Cause.STOPPED else _DEATH_S


def _pickled(target: Callable[..., Any], arguments: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps((target, arguments))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"what is to be trained cannot be sent to other processes ({error}): pass functions and classes that stand "
            "at the top of a module, or set train.distributed.ranks=1."
        ) from error


def _open_store(listens_on: str, host: str) -> TCPStore:
    """A store on a free port: the system chooses it, and torch takes over the socket, so nobody can come between."""
    listener = socket.create_server((listens_on, 0))
    port = listener.getsockname()[1]
    return TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
