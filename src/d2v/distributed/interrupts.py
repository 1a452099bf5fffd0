"""Ctrl-C and SIGTERM: finish the update first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from d2v.distributed.environment import STORE

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While open, a first signal is only noted in `requested`; a second one aborts at once. In a rank that a supervisor
    started it does not: who signals the whole process tree reaches such a rank twice, and the supervisor is the one to
    abort.

    Handlers exist only in the main thread, where Python allows them, and are put back at the end.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def request(self, name: str) -> None:
        """Ask for what a first signal of this name asks for; any thread may."""
        if self.requested is None:
            self.requested = name

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and STORE not in os.environ:
            raise KeyboardInterrupt
        self.request(signal.Signals(number).name)
