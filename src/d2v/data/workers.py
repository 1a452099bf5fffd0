"""Calls of native decoders in processes of their own: what ends one of them ends no more than that.

A decoder written in C can end its process where Python would raise, or never return. Workers are forks of a small
process (`worker_server`) that starts when the first of them is needed. Where there is no such fork (macOS, Windows),
calls are made in this process.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import queue
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from d2v.data.worker_server import NUMBER, Work
from d2v.errors import DataError

In = TypeVar("In")
Out = TypeVar("Out")

CAN_FORK = sys.platform.startswith("linux")
MESSAGE_BYTES, MESSAGE_VALUES = 2**20, 256
"""What a process of `streamed` sends at a time."""
LIMIT_S = 120.0
"""A worker that has said nothing for so long is ended, and what it worked on counts as what ended it."""
TELL_S = 1.0
"""How long a worker keeps results to itself, so that its limit is one of about an item, not of all that it was sent."""
START_S = 120.0
SERVER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from d2v.data.worker_server import serve; serve({})"
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
"""Decoders use no linear algebra, and a process without threads is safe to fork."""


class WorkerDied(Exception):
    """A call that ended its process; the message says how."""


class _Server:
    """The process that workers are forks of: one for each process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, work: bytes) -> tuple[Connection, int]:
        """Have a worker do some pickled work.

        Returns:
            The connection to it, and the pipe that tells its process id and later its exit code.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            ours, theirs = Pipe()
            status, telling = os.pipe()
            try:
                try:
                    socket.send_fds(self._channel, [b"w"], [theirs.fileno(), telling])
                except BrokenPipeError:  # it was ended after it was looked at
                    self._start()
                    socket.send_fds(self._channel, [b"w"], [theirs.fileno(), telling])
            finally:  # nobody else may hold them, or their end would not be seen
                theirs.close()
                os.close(telling)
        ours.send_bytes(work)
        return ours, status

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = SERVER.format(f"{theirs.fileno()}, {os.getpid()}")
            self._process = subprocess.Popen(
                [sys.executable, "-c", command, json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **ONE_THREAD},
            )

    def forget(self) -> None:
        """A fork of this process has a server of its own."""
        if self._process is not None:
            self._channel.close()
        self._lock, self._process = Lock(), None

    def close(self) -> None:
        """End it and all workers."""
        with self._lock:
            if self._process is not None:
                self._channel.close()
                self._process.wait()
            self._process = None


_server = _Server()
atexit.register(_server.close)
os.register_at_fork(after_in_child=_server.forget)


class _Child:
    """A worker and the connection to it.

    Args:
        work: what it does with its end of the connection; it is pickled.

    Raises:
        DataError: there is no worker.
    """

    def __init__(self, work: Work) -> None:
        try:
            self.connection, self._status = _server.fork(pickle.dumps(work))
            self._pid = self._told(START_S)
        except OSError as error:
            raise DataError(
                f"Decoders cannot be started in a process of their own ({error}): see whether memory or processes are "
                "used up, and run the step again"
            ) from error

    def _told(self, limit_s: float) -> int:
        """The next number that the server tells of it."""
        ready, _, _ = select.select([self._status], [], [], limit_s)
        said = os.read(self._status, NUMBER.size) if ready else b""
        if len(said) < NUMBER.size:
            raise ChildProcessError("the server of workers has ended" if ready else "the server of workers is silent")
        number: int = NUMBER.unpack(said)[0]
        return number

    def receive(self, limit_s: float) -> Any:
        """What it sends next. Raises WorkerDied after too long a time, EOFError or OSError where it has ended."""
        if not self.connection.poll(limit_s):
            raise WorkerDied(f"it did not end within {limit_s:g} s")
        return self.connection.recv()

    def cause(self) -> str:
        """How it ended."""
        try:
            code = self._told(START_S)
        except ChildProcessError as error:
            return str(error)
        self._pid = 0
        return f"it ended its process with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def close(self) -> None:
        """End it."""
        self.connection.close()
        has_ended, _, _ = select.select([self._status], [], [], 0)
        if self._pid and not has_ended:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        os.close(self._status)


class Worker(Generic[In, Out]):
    """A process that calls one function.

    Args:
        function: of one item. It must not raise, and is pickled.
        limit_s: see LIMIT_S.
    """

    def __init__(self, function: Callable[[In], Out], limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._child = _Child(partial(_answer, function))

    def ask(self, items: Sequence[In], found: list[Out]) -> None:
        """Add the results of some items to `found`. Raises WorkerDied; the worker cannot be used after that."""
        try:
            self._child.connection.send(items)
            while len(found) < len(items):
                found.extend(self._child.receive(self._limit_s))
        except (EOFError, OSError):
            raise WorkerDied(self._child.cause()) from None

    def close(self) -> None:
        """End the process."""
        self._child.close()


def _answer(function: Callable[[In], Out], connection: Connection) -> None:
    while True:
        results, told_s = [], time.monotonic()
        for item in connection.recv():
            results.append(function(item))
            if time.monotonic() - told_s > TELL_S:
                connection.send(results)
                results, told_s = [], time.monotonic()
        if results:
            connection.send(results)


class Workers(Generic[In, Out]):
    """As many workers as threads call them, each started when it is first needed. A call whose worker dies is made once
    more for each item alone.

    Args:
        function: of one item. It must not raise, and is pickled.
        count: threads that call at the same time.
        limit_s: see LIMIT_S.

    Example:
        >>> with Workers(len, count=1) as workers:
        ...     workers.map([b"one", b"three"])
        [3, 5]
    """

    def __init__(self, function: Callable[[In], Out], count: int, limit_s: float = LIMIT_S) -> None:
        self._function, self._count, self._limit_s = function, count, limit_s
        self._idle: queue.SimpleQueue[Worker[In, Out] | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> Workers[In, Out]:
        return self

    def __exit__(self, *_: object) -> None:
        for _number in range(self._count):
            worker = self._idle.get()
            if worker:
                worker.close()

    def map(self, items: Sequence[In]) -> list[Out | WorkerDied]:
        """The result of each item, or how it ended its worker twice."""
        if not CAN_FORK:
            return [self._function(item) for item in items]
        found: list[Out | WorkerDied] = []
        try:
            self._ask(items, found)
        except WorkerDied:
            found += [self._alone(item) for item in items[len(found) :]]
        return found

    def _alone(self, item: In) -> Out | WorkerDied:
        found: list[Out] = []
        try:
            self._ask([item], found)
        except WorkerDied as died:
            return died
        return found[0]

    def _ask(self, items: Sequence[In], found: list[Any]) -> None:
        worker = self._idle.get()
        try:
            worker = worker or Worker(self._function, self._limit_s)
            worker.ask(items, found)
        except WorkerDied:
            if worker:
                worker.close()
            worker = None
            raise
        finally:
            self._idle.put(worker)


def streamed(make: Callable[[], Iterator[In]], size_of: Callable[[In], int], memory_bytes: int) -> Iterator[In]:
    """What an iterator gives, which runs in a process of its own that may die, with a bound on its memory.

    Args:
        make: makes the iterator, in that process; it is pickled.
        size_of: bytes of one of its values, about; it is pickled.
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
