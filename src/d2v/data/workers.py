"""Calls of native decoders in processes of their own: what ends one of them ends no more than that.

A decoder written in C can end its process where Python would raise. A worker is a fork of this process, so it starts in
milliseconds and needs nothing sent but the items. Where there is no safe fork (macOS, Windows), calls are made in this
process.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

CAN_FORK = sys.platform.startswith("linux")
LIMIT_S = 600.0
"""A worker that has not answered by then is ended, and what it worked on counts as what ended it."""


class WorkerDied(Exception):
    """A call that ended its process; the message says how."""


class Worker(Generic[In, Out]):
    """A process that calls one function.

    Args:
        function: of one item. It must not raise.
        limit_s: see LIMIT_S.
    """

    def __init__(self, function: Callable[[In], Out], limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._connection, theirs = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that hold locks; the child calls decoders alone, which take none of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _serve(function, theirs)
        theirs.close()

    def ask(self, items: Sequence[In]) -> list[Out]:
        """Results of some items. Raises WorkerDied; the worker cannot be used after that."""
        try:
            self._connection.send(items)
            if not self._connection.poll(self._limit_s):
                raise WorkerDied(f"it did not end within {self._limit_s:g} s")
            found: list[Out] = self._connection.recv()
            return found
        except (EOFError, OSError):
            raise WorkerDied(self._cause()) from None

    def _cause(self) -> str:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return f"it ended its process with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _serve(function: Callable[[In], Out], connection: Connection) -> None:
    """The life of a worker: it ends when the other end of its connection does."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        here = connection.fileno()
        os.closerange(3, here)  # ends of other workers' connections, which must close when their processes do
        os.closerange(here + 1, os.sysconf("SC_OPEN_MAX"))
        while True:
            connection.send([function(item) for item in connection.recv()])
    finally:
        os._exit(0)


class Workers(Generic[In, Out]):
    """As many workers as threads call them. A call whose worker dies is made once more for each item alone.

    Args:
        function: of one item. It must not raise.
        count: threads that call at the same time.

    Example:
        >>> with Workers(len, count=1) as workers:
        ...     workers.map([b"one", b"three"])
        [3, 5]
    """

    def __init__(self, function: Callable[[In], Out], count: int) -> None:
        self._function = function
        self._idle: queue.SimpleQueue[Worker[In, Out] | None] = queue.SimpleQueue()
        self._count = count
        for _ in range(count):
            self._idle.put(Worker(function) if CAN_FORK else None)

    def __enter__(self) -> Workers[In, Out]:
        return self

    def __exit__(self, *_: object) -> None:
        for _number in range(self._count):
            worker = self._idle.get()
            if worker:
                worker.close()

    def map(self, items: Sequence[In]) -> list[Out | WorkerDied]:
        """The result of each item, or how it ended its worker twice."""
        try:
            return list(self._ask(items))
        except WorkerDied:
            return [self._alone(item) for item in items]

    def _alone(self, item: In) -> Out | WorkerDied:
        try:
            return self._ask([item])[0]
        except WorkerDied as died:
            return died

    def _ask(self, items: Sequence[In]) -> list[Out]:
        worker = self._idle.get()
        if worker is None:
            self._idle.put(None)
            return [self._function(item) for item in items]
        try:
            return worker.ask(items)
        except WorkerDied:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                worker.close()
            worker = Worker(self._function)
            raise
        finally:
            self._idle.put(worker)
