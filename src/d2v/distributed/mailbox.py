"""A mailbox in the ranks' store: what a supervisor and its ranks tell one another.

Pickles lie on it. The store listens on this machine alone unless there is a hostfile; then, as with
`torch.distributed` itself, whoever reaches its port must be trusted.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple

from torch.distributed import Store, TCPStore

from d2v.errors import D2vError

STACK_CHARACTERS = 20_000
RESUME = "The last checkpoint is whole: the same command resumes from it."
_CONNECT = timedelta(seconds=60)


class Cause(IntEnum):
    """How a rank failed. Of several that did, the least is the reason: the others often fail because it did."""

    KILLED = 0
    """By a signal that nobody here sent."""
    FAILED = 1
    """By an exception, or it hangs."""
    STOPPED = 2
    """Because someone asked for it."""
    VANISHED = 3
    """By a signal with which torch ends a process whose peers are gone, or without a word."""
    CUT_OFF = 4
    """In the middle of talking to another rank."""


@dataclass(frozen=True)
class Outcome:
    """How one rank ended.

    Attributes:
        rank: which.
        cause: None if it did not fail.
        result: what the call returned, on rank 0.
        error: raised by the supervisor as it is, where there is one.
        headline: else, what happened.
        stack: and where.
        accused: for a hang: this rank is the one that the others wait for.
        order: by which outcomes were posted.
    """

    rank: int
    cause: Cause | None = None
    result: Any = None
    error: D2vError | None = None
    headline: str = ""
    stack: str = ""
    accused: bool = False
    order: int = 0


class Progress(NamedTuple):
    """Where a rank is.

    Attributes:
        update: updates done.
        order: of the phase, among those that follow an update.
        phase: what it does, in a word.
        tick: counts the posts; it stands still when the rank's process does.
        age_s: how long it has been there.
        waits: its main thread is in a call to the other ranks.
        left: the training is over for it.
    """

    update: int
    order: int
    phase: str
    tick: int
    age_s: float = 0.0
    waits: bool = False
    left: bool = False

    def __str__(self) -> str:
        return f"at update {self.update}, in {self.phase!r}"


class Mailbox:
    """Notes under the keys `call`, `stop`, `abort`, `outcome/<rank>` and `progress/<rank>`.

    Args:
        store: the ranks' store. A thread of its own needs a clone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put_call(self, call: bytes) -> None:
        """What every rank is to do, pickled."""
        self._store.set("call", call)  # type: ignore[arg-type]  # the stub knows only text

    def call(self) -> bytes:
        """The pickled call; waits for it."""
        call: bytes = self._store.get("call")
        return call

    def put_outcome(self, outcome: Outcome) -> None:
        """Tell how this rank ended."""
        self._put(f"outcome/{outcome.rank}", replace(outcome, order=self._store.add("order", 1)))

    def outcome(self, rank: int) -> Outcome | None:
        """How a rank ended, once it has told."""
        found: Outcome | None = self._find(f"outcome/{rank}")
        return found

    def put_progress(self, rank: int, progress: Progress) -> None:
        """Tell where this rank is."""
        self._put(f"progress/{rank}", progress)

    def progress(self, rank: int) -> Progress | None:
        """Where a rank was when it last told."""
        found: Progress | None = self._find(f"progress/{rank}")
        return found

    def where(self, rank: int) -> str:
        """The same in words."""
        progress = self.progress(rank)
        return f"last seen {progress}" if progress else "before training began"

    def ask_to_stop(self, signal_name: str) -> None:
        """Ask all ranks to save and stop."""
        self._put("stop", signal_name)

    def stop_asked(self) -> str | None:
        """The signal for which the ranks are to stop."""
        found: str | None = self._find("stop")
        return found

    def abort(self) -> None:
        """Tell all ranks to end at once."""
        self._put("abort", True)

    def aborted(self) -> bool:
        """Whether the ranks are to end at once."""
        return self._find("abort") is not None

    def _put(self, key: str, note: Any) -> None:
        self._store.set(key, pickle.dumps(note))  # type: ignore[arg-type]

    def _find(self, key: str) -> Any:
        return pickle.loads(self._store.get(key)) if self._store.check([key]) else None


def connect(address: str, timeout: timedelta = _CONNECT) -> TCPStore:
    """A connection to the store at HOST:PORT."""
    host, _, port = address.rpartition(":")
    return TCPStore(host, int(port), is_master=False, timeout=timeout, wait_for_workers=False)
