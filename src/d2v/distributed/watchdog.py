"""A thread beside the training of each rank: it tells where the rank is, and ends a training in which one hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType, TracebackType

import torch
from torch.distributed import Store

from d2v.distributed.environment import STORE, DistEnv
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.mailbox import RESUME, Cause, Mailbox, Outcome, Progress
from d2v.errors import LaunchError

PHASES = ("start", "log", "probe", "checkpoint", "data", "forward and backward", "step", "export")
"""What a rank does after an update, in this order, and at the ends."""

TICK_S = 1.0
_FAREWELL_S = 10.0
_ANSWER = timedelta(seconds=60)
_TICKS_TO_JUDGE = 3


class Watchdog:
    """Open while this rank trains; alone it does nothing.

    Once a second its thread posts this rank's progress and looks for a request to stop. If this rank has not moved for
    `timeout_s`, it finds out which rank the others wait for, says so, and ends this process; every rank does the same.
    It also ends the process when the one that started it, or its store, is gone.

    Args:
        env: this rank.
        store: where the ranks met.
        timeout_s: longest time between two heartbeats. Heartbeats come between phases, so it
            must exceed the longest phase of the rank that the others wait for, such as a
            probe or a checkpoint on rank 0.
        interrupts: told when the supervisor asks for a stop.
    """

    def __init__(self, env: DistEnv, store: Store, timeout_s: float, interrupts: Interrupts) -> None:
        self._env, self._store, self._timeout_s, self._interrupts = env, store, timeout_s, interrupts
        self._last = (0, "start", time.monotonic())
        self._tick = 0
        self._before: list[Progress | None] = []
        self._judge_at: int | None = None
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def heartbeat(self, update: int, phase: str) -> None:
        """This rank has done `update` updates and now begins `phase`, one of PHASES."""
        self._last = (update, phase, time.monotonic())

    def __enter__(self) -> Watchdog:
        self._last = (0, "start", time.monotonic())
        if self._env.world_size > 1:
            store = self._store.clone()  # type: ignore[attr-defined]  # a connection serves one call at a time
            store.set_timeout(_ANSWER)
            self._mailbox = Mailbox(store)
            self._parent, self._trainer = os.getppid(), threading.get_ident()
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
            if kind is None and self._env.is_main:
                self._wait_for_the_others()

    def _wait_for_the_others(self) -> None:
        """Rank 0's process may keep the store and end soon; who still trains would take that for a failure."""
        end_s = time.monotonic() + _FAREWELL_S
        with contextlib.suppress(torch.distributed.DistError):
            while time.monotonic() < end_s and not all(one and one.left for one in self._progress_of_all()):
                time.sleep(_FAREWELL_S / 100)

    def _run(self) -> None:
        try:
            self._look()
            while not self._left.wait(TICK_S):
                self._look()
            self._post()
        except torch.distributed.DistError:
            if not self._left.is_set():
                self._end("the process that keeps the ranks' store is gone")

    def _look(self) -> None:
        self._post()
        if self._mailbox.aborted():
            self._end("the supervisor ended the training")
        if os.getppid() != self._parent:
            self._end("the process that started this rank is gone")
        if name := self._mailbox.stop_asked():
            self._interrupts.request(name)
        if time.monotonic() - self._last[2] > self._timeout_s:
            self._suspect()
        else:
            self._judge_at = None

    def _post(self) -> None:
        self._tick += 1
        update, phase, since = self._last
        waits = _is_in_collective(sys._current_frames().get(self._trainer))
        age_s = time.monotonic() - since
        progress = Progress(update, PHASES.index(phase), phase, self._tick, age_s, waits, self._left.is_set())
        self._mailbox.put_progress(self._env.rank, progress)

    def _suspect(self) -> None:
        """Look at all ranks twice, some ticks apart: one whose tick stands still does not answer."""
        if self._judge_at is None:
            self._judge_at, self._before = self._tick + _TICKS_TO_JUDGE, self._progress_of_all()
        elif self._tick >= self._judge_at:
            self._accuse(self._before, self._progress_of_all())

    def _progress_of_all(self) -> list[Progress | None]:
        return [self._mailbox.progress(rank) for rank in range(self._env.world_size)]

    def _accuse(self, before: Sequence[Progress | None], now: Sequence[Progress | None]) -> None:
        accused = find_hung(before, now)
        if not any(_is_over_time(before[rank], now[rank], self._timeout_s) for rank in accused):
            self._judge_at = None  # the rank that all wait for has moved since, if slowly
            return
        headline = describe_hang(accused, before, now, self._timeout_s)
        is_accused = self._env.rank in accused
        stack = "".join(traceback.format_stack(sys._current_frames()[self._trainer])) if is_accused else ""
        if self._speaks():
            faulthandler.dump_traceback(all_threads=True)
        self._mailbox.put_outcome(
            Outcome(self._env.rank, Cause.FAILED, headline=headline, stack=stack, accused=is_accused)
        )
        self._end(f"{headline}\n{stack}{RESUME}")

    def _end(self, why: str) -> None:
        """The main thread may be in a call that never returns, so nothing gentler works."""
        if self._speaks():
            print(f"rank {self._env.rank}: {why}", file=sys.stderr, flush=True)
        os._exit(LaunchError.exit_code)

    def _speaks(self) -> bool:
        """The supervisor speaks for rank 0, whose stderr is the user's; the others' is their log."""
        return not (self._env.is_main and STORE in os.environ)


def find_hung(before: Sequence[Progress | None], now: Sequence[Progress | None]) -> list[int]:
    """The ranks that the others wait for, from two looks at all.

    First those that have not posted in between; else those that are behind in (update, phase); of several, those that
    are not themselves in a call to other ranks.
    """
    here = [rank for rank, progress in enumerate(now) if progress is None or not progress.left]
    silent = [rank for rank in here if _tick_of(now[rank]) == _tick_of(before[rank])]
    if silent:
        return silent
    posted = {rank: progress for rank in here if (progress := now[rank]) is not None}
    least = min((progress.update, progress.order) for progress in posted.values())
    behind = [rank for rank, progress in posted.items() if (progress.update, progress.order) == least]
    return [rank for rank in behind if not posted[rank].waits] or behind


def _is_over_time(before: Progress | None, now: Progress | None, timeout_s: float) -> bool:
    return now is None or _tick_of(now) == _tick_of(before) or now.age_s > timeout_s


def describe_hang(
    hung: Sequence[int], before: Sequence[Progress | None], now: Sequence[Progress | None], timeout_s: float
) -> str:
    """One sentence: who hangs where, and where the others wait."""
    silent = _tick_of(now[hung[0]]) == _tick_of(before[hung[0]])
    who = f"rank {hung[0]} hangs" if len(hung) == 1 else f"ranks {', '.join(map(str, hung))} hang"
    where = ", ".join(sorted({"before training began" if now[r] is None else str(now[r]) for r in hung}))
    others = [f"rank {r} waits {progress}" for r, progress in enumerate(now) if progress is not None and r not in hung]
    answer = " and its process does not answer" if silent else ""
    parts = [f"{who}: no progress for {timeout_s:g} s {where}{answer}", *others[:4]]
    return "; ".join(parts) + "."


def _tick_of(progress: Progress | None) -> int:
    return 0 if progress is None else progress.tick


def _is_in_collective(frame: FrameType | None) -> bool:
    """Whether a thread is inside torch.distributed, or waits for what it began there: then DeepSpeed or our own
    `ProcessGroup` is where it stands."""
    innermost = frame
    while frame is not None:
        if f"{os.sep}torch{os.sep}distributed{os.sep}" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    collectives = (f"{os.sep}deepspeed{os.sep}", f"{os.sep}distributed{os.sep}process_group.py")
    return innermost is not None and any(file in innermost.f_code.co_filename for file in collectives)
