"""The process that workers are forks of. It has one thread and loads what readers need, so a fork of it is safe at any
time: a fork of a training or of a notebook can inherit a lock that nobody will ever release.

`workers` starts it as a fresh interpreter, asks it for workers, and hears from it how each of them ended. It ends when
its parent does, and so do they.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from d2v.processes import die_with_parent

Work = Callable[[Connection], None]

NUMBER = struct.Struct("i")
ALIVE_S = 0.5
"""How often the server looks whether its parent is there, where the end of their connection is not seen: another child
of the parent can hold it open."""


def serve(channel_handle: int, parent_pid: int) -> None:
    """Fork a worker for each request until the parent ends.

    A request is one byte with two descriptors: the worker's connection, on which its pickled work comes first, and the
    pipe on which its process id and later its exit code are told.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    signal.signal(signal.SIGCHLD, lambda *_: None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    channel = socket.socket(fileno=channel_handle)
    told: dict[int, int] = {}  # process id of a worker -> where its end is told
    while os.getppid() == parent_pid:
        ready, _, _ = select.select([channel.fileno(), woken], [], [], ALIVE_S)
        if woken in ready:
            os.read(woken, 512)
        _tell_ends(told)
        if channel.fileno() in ready:
            request, handles, _, _ = socket.recv_fds(channel, 1, 2)
            if not request:
                return
            _start(Connection(handles[0]), handles[1], told, [channel.fileno(), woken, waking])


def _start(connection: Connection, status: int, told: dict[int, int], own: list[int]) -> None:
    with connection:
        try:
            work = connection.recv_bytes()
        except (EOFError, OSError):
            os.close(status)
            return
        with suppress(Exception):  # the worker says what is wrong; here its modules are loaded for all that follow
            pickle.loads(work)
        server, pid = os.getpid(), os.fork()
        if not pid:
            _live(work, connection, server, [status, *own, *told.values()])
    told[pid] = status
    with suppress(OSError):
        os.write(status, NUMBER.pack(pid))


def _live(work: bytes, connection: Connection, server: int, not_mine: list[int]) -> None:
    """The life of a worker."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for handle in not_mine:
            os.close(handle)
        die_with_parent()
        if os.getppid() == server:
            do: Work = pickle.loads(work)
            do(connection)
            code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0  # the other end has gone
    finally:
        os._exit(code)


def _tell_ends(told: dict[int, int]) -> None:
    """Tell who waits for them how workers have ended."""
    while told:
        pid, state = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        status = told.pop(pid)
        with suppress(OSError):
            os.write(status, NUMBER.pack(os.waitstatus_to_exitcode(state)))
        os.close(status)
