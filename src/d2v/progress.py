"""Progress for people: one live bar on a terminal, a plain line now and then elsewhere.

The numbers behind it come from the caller; those of a training are made by `d2v.training.performance.progress_line`.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

PLAIN_INTERVAL_S, SILENT_S = 10.0, 60.0
"""Without a terminal: seconds between two lines, and between lines that have no new numbers to say."""
_muted = False


def mute() -> None:
    """Print nothing more in this process: rank 0 prints for all."""
    global _muted  # noqa: PLW0603  (a process has one terminal)
    _muted = True


class Progress:
    """Count of work done, with a line of numbers behind it.

    Args:
        title: what is being done.
        total: items to do, or None when unknown.
        start: items already done, for work that is resumed.

    Example:
        >>> with Progress("ingest", total=2) as progress:
        ...     progress.advance(2, "2 kept")
    """

    def __init__(self, title: str, total: int | None, start: int = 0) -> None:
        self.title, self.total, self.done = title, total, start
        self._start, self._began_s = start, time.monotonic()
        self._detail = self._said = ""
        self._last_line_s, self._said_done = self._began_s, -1
        self._bar = self._make_bar() if sys.stderr.isatty() and not _muted else None
        self._task = self._bar.add_task(title, total=total, completed=start, detail="") if self._bar else None

    @staticmethod
    def _make_bar() -> RichProgress:
        return RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and (self.done != self._said_done or self._detail != self._said):
            self._print_line()

    def advance(self, items: int = 1, detail: str | None = None) -> None:
        """Count `items` more as done and show `detail` behind the bar."""
        self.done += items
        self._detail = self._detail if detail is None else detail
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, detail=self._detail)
        elif time.monotonic() - self._last_line_s > self._wait_s():
            self._print_line()

    def _wait_s(self) -> float:
        """Seconds from one line to the next: the first numbers come at once, the same ones not again."""
        if self._detail and not self._said:
            return 0.0
        return SILENT_S if self._detail and self._detail == self._said else PLAIN_INTERVAL_S

    def _print_line(self) -> None:
        self._last_line_s = time.monotonic()
        of = f"/{self.total}" if self.total else ""
        new = self._detail if self._detail != self._said else ""
        left = "" if new else self._left()
        self._said, self._said_done = self._detail, self.done
        log(f"{self.title} {self.done}{of} {new}{left}".rstrip())

    def _left(self) -> str:
        """How long the rest takes at the speed so far; empty where that is not known."""
        done = self.done - self._start
        if not self.total or done <= 0 or self.done >= self.total:
            return ""
        left_s = (self.total - self.done) / done * (time.monotonic() - self._began_s)
        return f"eta {round(left_s // 60)}m{round(left_s % 60):02d}s"


def log(line: str) -> None:
    """One line for people, beside the progress bar if there is one."""
    if not _muted:
        print(line, file=sys.stderr, flush=True)
