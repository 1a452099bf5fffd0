"""The driver of an ingest on a cluster: it cuts the source, goes through the items in order, and writes the tables.

One process finds duplicates, splits and borders of shards one item after the other. The driver does the same with the
facts about each item, which workers found; its record stays in files. So the corpus has the bytes of one process.
"""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from d2v.data import fingerprint
from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster, WorkerLost
from d2v.data.cluster.pieces import (
    DIGESTS,
    PIECES,
    ROW,
    SHARDS,
    UNFINISHED,
    Job,
    Piece,
    data_path,
    digest_of_shard,
    read_piece,
    read_said,
    said_path,
    write_shard,
)
from d2v.data.cluster.remote import Remote
from d2v.data.disk import swap_in
from d2v.data.ingest import CSV_HEADS, RULES, IngestPass, Outcome, Record
from d2v.data.ingest import SHARDS as CORPUS_SHARDS
from d2v.data.sources.source import Item
from d2v.errors import DataError
from d2v.progress import Progress, log

OWNER = ".cluster"
"""A file of the partial corpus: whose shards it was given."""
SLOW, SHOWN = 4.0, 3
"""So many times the usual time of a piece make it slow; so many slow ones are named."""
_REASON, _START = ROW.index("reason"), 0


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


class ClusterIngest(IngestPass):
    """One pass over a source whose items are read by the workers of a cluster.

    The work folder beside the corpus holds what is done. It belongs to one source, one recipe and one set of versions:
    with others it is begun anew.
    """

    def __init__(self, remote: Remote, *args: Any) -> None:
        self.remote = remote
        super().__init__(*args)
        self.job = Job(
            self.work.absolute(),
            uuid4().hex,
            self.source.fingerprint,
            self.remote,
            self.read,
            self.facts,
            self.texts,
            self.test_fraction,
            self.in_workers,
            machine.versions(),
        )
        (self.work / machine.SEEN).write_text(self.job.token)
        (self.work / machine.STOP).unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------ work folder

    def _restore(self) -> dict[str, Any]:
        """Make the folders. Whole pieces and shards of the same work are kept, all else is removed."""
        shaping = {
            "identity": self.identity,
            "rules": RULES,
            "columns": self._schema().names,
            "shard_bytes": self.shard_bytes,
            "piece_items": self.remote.config.piece_items,
            "versions": machine.versions(),
        }
        owner = fingerprint.of_values(shaping)[:16]
        every = self.folder.with_name(self.folder.name.removesuffix(".partial") + ".cluster")
        self.work = every / owner
        for old in every.glob("*"):
            if old != self.work:
                shutil.rmtree(old, ignore_errors=True)
        shards, owned = self.work / SHARDS, self.folder / OWNER
        if (
            not shards.exists()
            and owned.is_file()
            and owned.read_text() == owner
            and (self.folder / CORPUS_SHARDS).exists()
        ):
            (self.folder / CORPUS_SHARDS).rename(shards)  # killed between its last two steps
        shutil.rmtree(self.work / UNFINISHED, ignore_errors=True)
        for name in (PIECES, SHARDS, DIGESTS, UNFINISHED):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        if not any((self.work / SHARDS).iterdir()):  # the records of pieces go when their shards are there
            for said in (self.work / PIECES).glob("*.json"):
                if not said.with_suffix(".arrow").exists():
                    said.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        owned.write_text(owner)
        for name, head in CSV_HEADS.items():
            (self.folder / name).write_text(",".join(head) + "\r\n")
        return {"parts": 0, "next_item": 0}

    def _open_writer(self, first: int) -> ShardPlan:
        self.shards, self.plan = self.work / SHARDS, ShardPlan(self.shard_bytes)
        return self.plan

    # ------------------------------------------------------------------------------------ stream

    def stream(self) -> None:
        """Have every piece read that is left, and every shard written."""
        with Cluster(self.remote.config, "ingest") as cluster:
            try:
                _Stream(self, cluster).run()
            except BaseException:
                (self.work / machine.STOP).touch()
                raise

    def take_piece(self, piece: Piece) -> None:
        """Count its items and find their shards. Items that an earlier piece has told of already are left out."""
        position = piece.start
        for number, said in enumerate(piece.rows):
            items = said[ROW.index("items")]
            if position >= self.next_item:
                self.plan.at(piece.start, number, said[ROW.index("bytes")])
                self._take(_outcome_of(said))
                self.next_item += items
            position += items

    def _grouped(self) -> Iterator[tuple[str, str]]:
        for path in sorted((self.work / PIECES).glob("*.json")):
            for said in (read_said(path) or _gone(path)).rows:
                of = dict(zip(ROW, said, strict=True))
                if of["group"] is not None:
                    yield of["key"], of["group"]

    # ------------------------------------------------------------------------------------ end

    def _write_corpus(self, parameters: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        names = range(self.plan.shards)
        digests = {path.name: path.read_text() for path in (self.work / DIGESTS).glob("part-*")}
        self.known_digests = {f"{CORPUS_SHARDS}/{name}": digest for name, digest in digests.items()}
        if len(list(self.shards.glob("part-*.arrow"))) != len(names):
            raise DataError(f"{self.shards} holds other shards than were written: remove {self.work} and run it again")
        self.shards.rename(self.folder / CORPUS_SHARDS)
        super()._write_corpus(parameters, settings)

    def swap_in(self, out: Path) -> None:
        """Put the whole corpus in its place, and remove the work folder."""
        (self.folder / OWNER).unlink()
        swap_in(self.folder, out)
        shutil.rmtree(self.work.parent, ignore_errors=True)


class _Stream:
    """Keeps the workers busy: pieces in their order, and before them the shards that can be written."""

    def __init__(self, ingest: ClusterIngest, cluster: Cluster) -> None:
        self.ingest, self.cluster, self.job = ingest, cluster, ingest.job
        self.total, self.step = ingest.source.total, ingest.remote.config.piece_items
        self.starts = self._starts()
        self.next_start = 0  # of the piece whose items are counted next
        self.read: set[int] = set()  # starts of pieces that were read, and not yet counted
        self.needed = Counter[int]()  # start of a piece -> shards that still need its records
        self.shards: dict[int, set[int]] = {}  # shard that is being written -> starts of its pieces
        self.seconds: dict[int, float] = {}
        self.counted: list[int] = []  # starts of pieces of which a shard may still lack rows
        self.is_ended = False

    def _starts(self) -> Iterator[int]:
        """Of the pieces that are to be read."""
        for start in range(0, self.total, self.step) if self.total is not None else count(0, self.step):
            if read_said(said_path(self.job.folder, start)):
                self.read.add(start)
            else:
                yield start
            if self.is_ended:
                return

    def run(self) -> None:
        """Until every shard is there."""
        with Progress("ingest", self.total) as self.progress:
            while not (self.is_ended and not self.shards):
                self._submit_pieces()
                self._count_pieces()
                if self.is_ended:
                    self.ingest.plan.flush()
                self._submit_shards()
                if self.cluster.waiting and not (self.is_ended and not self.shards):
                    self._wait()
        self._name_slow_ones()

    def _submit_pieces(self) -> None:
        while not self.is_ended and self.cluster.has_room():
            start = next(self.starts, None)
            if start is None:
                return
            self.cluster.submit(("piece", start), read_piece, self.job, start, self._stop(start))

    def _stop(self, start: int) -> int:
        return start + self.step if self.total is None else min(start + self.step, self.total)

    def _count_pieces(self) -> None:
        """Go through the pieces that were read, as far as they follow one another."""
        ingest = self.ingest
        while self.next_start in self.read and not self.is_ended:
            start = self.next_start
            self.read.remove(start)
            piece = read_said(said_path(self.job.folder, start)) or _gone(said_path(self.job.folder, start))
            before = ingest.next_item
            self.needed[start] += 1
            ingest.take_piece(piece)
            self.counted.append(start)
            self.next_start += self.step
            self.is_ended = piece.is_last if self.total is None else self.next_start >= self.total
            detail = f"{ingest.report.kept:,} kept, {ingest.report.quarantined:,} quarantined"
            self.progress.advance(ingest.next_item - before, detail)

    def _submit_shards(self) -> None:
        for number, runs in self.ingest.plan.ready:
            if digest_of_shard(self.job.folder, number):
                continue
            pieces = {run[_START] for run in runs}
            self.needed.update(pieces)
            self.shards[number] = pieces
            self.cluster.submit(("shard", number), write_shard, self.job, number, runs, urgent=True)
        self.ingest.plan.ready.clear()
        for start in [start for start in self.counted if not self.ingest.plan.is_open(start)]:
            self.counted.remove(start)
            self._release(start)

    def _release(self, start: int) -> None:
        """Remove the records of a piece whose shards are all there."""
        self.needed[start] -= 1
        if not self.needed[start]:
            del self.needed[start]
            data_path(self.job.folder, start).unlink(missing_ok=True)

    def _wait(self) -> None:
        (kind, number), result = self.cluster.next_done()
        if isinstance(result, WorkerLost):
            self._again(kind, number, result)
        elif kind == "shard":
            for start in self.shards.pop(number):
                self._release(start)
        else:
            self.seconds[number] = result[-1]
            self.read.add(number)

    def _again(self, kind: str, number: int, lost: WorkerLost) -> None:
        """Read a piece that ended its workers once more, each item in a process of its own."""
        if kind != "piece":
            raise DataError(
                f"Nobody could {kind} {number:,} of {self.ingest.source.description} ({lost}): see whether the workers "
                "have enough memory, and lower cluster.piece_items; then the same command goes on"
            )
        stop = self._stop(number)
        log(f"ingest: the piece of items {number:,} to {stop - 1:,} is read with care, for {lost}")
        self.cluster.submit(("careful", number), read_piece, self.job, number, stop, True)

    def _name_slow_ones(self) -> None:
        usual = statistics.median(self.seconds.values()) if self.seconds else 0.0
        slow = sorted(self.seconds, key=lambda start: -self.seconds[start])[:SHOWN]
        slow = [start for start in slow if self.seconds[start] > max(SLOW * usual, 10.0)]
        if slow:
            named = ", ".join(
                f"items {start:,} to {self._stop(start) - 1:,} {self.seconds[start]:.0f} s" for start in slow
            )
            log(f"ingest: the slowest pieces took much longer than the usual {usual:.1f} s: {named}")


def _outcome_of(said: Sequence[Any]) -> Outcome:
    of = dict(zip(ROW, said, strict=True))
    if of["reason"] is not None:
        return Outcome(Item(of["key"], None, rows=of["items"]), b"", None, of["reason"])
    item = Item(of["key"], None, of["label"], of["split"], group=of["group"], fold=of["fold"], rows=of["items"])
    return Outcome(item, bytes.fromhex(of["sha256"]), Record(b"", {}, of["note"], {}, of["origin"]), "")


def _gone(path: Path) -> Piece:
    raise DataError(f"{path} is gone: remove {path.parents[1]} and run the same command again")
