"""Calls of native decoders in processes of their own: what ends one of them ends no more than that.

A decoder written in C can end its process where Python would raise. A worker is a fork of this process, so it starts in
milliseconds and needs nothing sent but the items. Where there is no safe fork (macOS, Windows), calls are made in this
process.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

CAN_FORK = sys.platform.startswith("linux")
MESSAGE_BYTES, MESSAGE_VALUES = 2**20, 256
"""What a process of `streamed` sends at a time."""
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
        self._child = _Child(partial(_answer, function))

    def ask(self, items: Sequence[In]) -> list[Out]:
        """Results of some items. Raises WorkerDied; the worker cannot be used after that."""
        try:
            self._child.connection.send(items)
            found: list[Out] = self._child.receive(self._limit_s)
            return found
        except (EOFError, OSError):
            raise WorkerDied(self._child.cause()) from None

    def close(self) -> None:
        """End the process."""
        self._child.close()


class _Child:
    """A fork of this process and the connection to it.

    Args:
        work: what it does with its end of the connection.
    """

    def __init__(self, work: Callable[[Connection], None]) -> None:
        self.connection, theirs = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that hold locks; the child calls decoders alone, which take none of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _live(work, theirs)
        theirs.close()

    def receive(self, limit_s: float) -> Any:
        """What it sends next. Raises WorkerDied after too long a time, EOFError or OSError where it has ended."""
        if not self.connection.poll(limit_s):
            raise WorkerDied(f"it did not end within {limit_s:g} s")
        return self.connection.recv()

    def cause(self) -> str:
        """How it ended."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return f"it ended its process with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def close(self) -> None:
        """End it."""
        self.connection.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _live(work: Callable[[Connection], None], connection: Connection) -> None:
    """The life of a child: it ends when the other end of its connection does."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
        faulthandler.disable()  # how it ends is for the quarantine to say
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work(connection)
    finally:
        os._exit(0)


def _answer(function: Callable[[In], Out], connection: Connection) -> None:
    here = connection.fileno()
    os.closerange(3, here)  # ends of other workers' connections, which must close when their processes do
    os.closerange(here + 1, os.sysconf("SC_OPEN_MAX"))
    while True:
        connection.send([function(item) for item in connection.recv()])


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
            worker.close()
            worker = Worker(self._function)
            raise
        finally:
            self._idle.put(worker)


def streamed(make: Callable[[], Iterator[In]], size_of: Callable[[In], int], memory_bytes: int) -> Iterator[In]:
    """What an iterator gives, which runs in a process of its own that may die, with a bound on its memory.

    Args:
        make: makes the iterator, in that process.
        size_of: bytes of one of its values, about.
        memory_bytes: the most that it may ask for. More is a MemoryError there.

    Raises:
        WorkerDied: the process ended. What the iterator raises is raised here as it is.
    """
    if not CAN_FORK:
        yield from make()
        return
    child = _Child(partial(_send_all, make, size_of, memory_bytes))
    try:
        while True:
            try:
                values, error = child.receive(LIMIT_S)
            except (EOFError, OSError):
                raise WorkerDied(child.cause()) from None
            yield from values
            if error is not None:
                raise error
            if not values:
                return
    finally:
        child.close()


def _send_all(
    make: Callable[[], Iterator[In]], size_of: Callable[[In], int], memory_bytes: int, connection: Connection
) -> None:
    """Messages are (some values, None); at the end ([], None), or the values so far and the error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    batch: list[In] = []
    size, failure = 0, None
    try:
        for value in make():
            batch.append(value)
            size += size_of(value)
            if size >= MESSAGE_BYTES or len(batch) == MESSAGE_VALUES:
                connection.send((batch, None))
                batch, size = [], 0
    except Exception as error:
        failure = error
    if batch or failure is not None:
        connection.send((batch, failure))
    connection.send(([], None))
