"""The driver's loop: pieces in, shards out, in the order of the items."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster, WorkerLost
from d2v.data.cluster.files import (
    DIGESTS,
    PIECES,
    Job,
    Piece,
    data_path,
    digest_of_shard,
    read_said,
    said_path,
    until_seen,
)
from d2v.data.store import shard_path
from d2v.data.url_paths import inside
from d2v.errors import DataError
from d2v.progress import Progress, log

SLOW, SLOW_S, SHOWN = 4.0, 10.0, 3
"""So many times the usual time of a piece, and so many seconds, make it slow; so many slow ones are named."""
_START = 0


class ShardPlan:
    """Takes the place of the writer of shards: it finds which rows a shard will hold, by the same rule.

    Args:
        shard_bytes: as of `ShardWriter`.
    """

    def __init__(self, shard_bytes: int) -> None:
        self.shard_bytes, self.shards = shard_bytes, 0
        self.piece, self.row, self.data_bytes = 0, 0, 0
        self._runs: list[list[int]] = []
        self._bytes = 0
        self.ready: list[tuple[int, list[list[int]]]] = []

    def at(self, piece: int, row: int, data_bytes: int) -> None:
        """Where the next item is, and the bytes of its record."""
        self.piece, self.row, self.data_bytes = piece, row, data_bytes

    def append(self, row: Mapping[str, Any]) -> bool:
        """Add the item to the shard."""
        last = self._runs[-1] if self._runs else None
        if last and last[0] == self.piece and last[1] + last[2] == self.row:
            last[2] += 1
        else:
            self._runs.append([self.piece, self.row, 1])
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, bytes)) + self.data_bytes
        return self._bytes >= self.shard_bytes and self.flush()

    def is_open(self, piece: int) -> bool:
        """Whether the shard that is not ended has rows of a piece."""
        return any(run[_START] == piece for run in self._runs)

    def flush(self) -> bool:
        """End the shard; False if it is empty."""
        if not self._runs:
            return False
        self.ready.append((self.shards, self._runs))
        self.shards += 1
        self._runs, self._bytes = [], 0
        return True


class Work(Protocol):
    """A step that a stream is for.

    Attributes:
        job: what its tasks are told.
        total: number of its items, None if that is not known.
        read_task, write_task: of (job, start, stop, careful), and of (job, number of the shard, runs).
        plan: finds the shards; None of a step that writes none, whose pieces keep their records.
        done: items that were counted.
        detail: what to say behind the bar.
    """

    @property
    def job(self) -> Job: ...
    @property
    def total(self) -> int | None: ...
    @property
    def read_task(self) -> Callable[..., None]: ...
    @property
    def write_task(self) -> Callable[..., None]: ...
    @property
    def plan(self) -> ShardPlan | None: ...
    @property
    def done(self) -> int: ...
    @property
    def detail(self) -> str: ...

    def hand_out(self, start: int, stop: int) -> None:
        """Leave what a worker needs to read a piece."""
        ...

    def take_piece(self, piece: Piece) -> None:
        """Count the items of a piece, and add them to the plan."""
        ...


class Stream:
    """Keeps the workers busy: pieces in their order, and before them the shards that can be written.

    Args:
        work: the step.
        cluster: its cluster.
        step: for messages.
    """

    def __init__(self, work: Work, cluster: Cluster, step: str) -> None:
        self.work, self.cluster, self.step = work, cluster, step
        self.folder, self.total, self.size = work.job.folder, work.total, work.job.config.piece_items
        self.before = {place.name for place in (*inside(self.folder / PIECES), *inside(self.folder / DIGESTS))}
        self.starts = self._starts()
        self.next_start = 0  # of the piece whose items are counted next
        self.read: set[int] = set()  # starts of pieces that were read, and not yet counted
        self.counted: list[int] = []  # starts of pieces of which a shard may still lack rows
        self.needed = Counter[int]()  # start of a piece -> shards that still need its records
        self.shards: dict[int, set[int]] = {}  # shard that is being written -> starts of its pieces
        self.seconds: dict[int, float] = {}
        self.is_ended = self.total == 0

    def _starts(self) -> Iterator[int]:
        """Of the pieces that are to be read."""
        for start in range(0, self.total, self.size) if self.total is not None else count(0, self.size):
            if self.is_ended:
                return
            path = said_path(self.folder, start)
            if path.name in self.before and read_said(path):  # to ask for each costs a request behind a URL
                self.read.add(start)
            else:
                yield start

    def run(self, progress: Progress) -> None:
        """Until every shard is there. After an error the tasks of the workers end, too."""
        for _ in self.pieces(progress):
            pass

    def pieces(self, progress: Progress) -> Iterator[Piece]:
        """The same, which goes on as the pieces are asked for: each of them once it is counted."""
        self.progress = progress
        try:
            while not self.is_ended or self.shards:
                self._submit_pieces()
                yield from self._count_pieces()
                if self.work.plan is not None:
                    self._submit_shards(self.work.plan)
                if self.shards or (self.cluster.waiting and not self.is_ended):
                    self._wait()
        except BaseException:
            (self.folder / machine.STOP).touch()
            raise
        self._name_slow_ones()

    def _submit_pieces(self) -> None:
        while not self.is_ended and self.cluster.has_room():
            start = next(self.starts, None)
            if start is None:
                return
            stop = self._stop(start)
            self.work.hand_out(start, stop)
            self.cluster.submit(("piece", start), self.work.read_task, self.work.job, start, stop)

    def _stop(self, start: int) -> int:
        return start + self.size if self.total is None else min(start + self.size, self.total)

    def _count_pieces(self) -> Iterator[Piece]:
        """Go through the pieces that were read, as far as they follow one another."""
        while self.next_start in self.read and not self.is_ended:
            start, before = self.next_start, self.work.done
            self.read.remove(start)
            if self.work.plan is not None:
                self.needed[start] += 1
                self.counted.append(start)
            piece = whole_piece(self.folder, start)
            self.seconds[start] = piece.seconds
            self.work.take_piece(piece)
            self.next_start += self.size
            self.is_ended = piece.is_last if self.total is None else self.next_start >= self.total
            self.progress.advance(self.work.done - before, self.work.detail)
            yield piece

    def _submit_shards(self, plan: ShardPlan) -> None:
        if self.is_ended:
            plan.flush()
        for number, runs in plan.ready:
            if shard_path(self.folder, number).name in self.before and digest_of_shard(self.folder, number):
                continue
            pieces = {run[_START] for run in runs}
            self.needed.update(pieces)
            self.shards[number] = pieces
            self.cluster.submit(("shard", number), self.work.write_task, self.work.job, number, runs, urgent=True)
        plan.ready.clear()
        for start in [start for start in self.counted if not plan.is_open(start)]:
            self.counted.remove(start)
            self._release(start)

    def _release(self, start: int) -> None:
        """Remove the records of a piece whose shards are all there."""
        self.needed[start] -= 1
        if not self.needed[start]:
            del self.needed[start]
            data_path(self.folder, start).unlink(missing_ok=True)

    def _wait(self) -> None:
        (kind, number), lost = self.cluster.next_done()
        if lost:
            self._again(kind, number, lost)
        elif kind == "shard":
            for start in self.shards.pop(number):
                self._release(start)
        else:
            self.read.add(number)

    def _again(self, kind: str, number: int, lost: WorkerLost) -> None:
        """Read a piece that ended its workers once more, each item in a process of its own."""
        if kind != "piece":
            raise DataError(
                f"No worker outlives the {kind} {number:,} of this {self.step} ({lost}): see whether they have enough "
                "memory, and lower cluster.piece_items; then the same command goes on"
            )
        stop = self._stop(number)
        log(f"{self.step}: the piece of items {number:,} to {stop - 1:,} is read with care, for {lost}")
        self.cluster.submit(("careful piece", number), self.work.read_task, self.work.job, number, stop, True)

    def _name_slow_ones(self) -> None:
        usual = statistics.median(self.seconds.values()) if self.seconds else 0.0
        slow = sorted(self.seconds, key=lambda start: -self.seconds[start])[:SHOWN]
        slow = [start for start in slow if self.seconds[start] > max(SLOW * usual, SLOW_S)]
        if slow:
            named = (f"items {start:,} to {self._stop(start) - 1:,} {self.seconds[start]:.0f} s" for start in slow)
            log(f"{self.step}: some pieces took much longer than the usual {usual:.1f} s: {', '.join(named)}")


def whole_piece(folder: Path, start: int) -> Piece:
    """A piece that was read. Raises DataError if it is gone since."""
    path = said_path(folder, start)
    if piece := until_seen(lambda: read_said(path)):
        return piece
    raise DataError(f"{path} is gone: remove {folder} and run the same command again")
