"""The two tasks of an ingest on a cluster: read a piece of the source, write a shard of the corpus."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from d2v.config import ClusterConfig
from d2v.data.cluster import machine
from d2v.data.cluster.remote import Remote
from d2v.data.disk import sync
from d2v.data.ingest import Inspection, Outcome, Reader, schema_of, split_of
from d2v.data.sources.row_sources import LISTED_ROWS
from d2v.data.sources.source import Item, Source
from d2v.data.store import ShardWriter, shard_path
from d2v.errors import DataError, is_of_storage
from d2v.progress import log

PIECES, SHARDS, DIGESTS, UNFINISHED = "pieces", "shards", "digests", "unfinished"
"""Folders of a work folder. What a worker writes lies in the last, until it is renamed."""
DATA = pa.schema([("data", pa.large_binary())])
BATCH_BYTES = 16 * 2**20
"""What a worker holds of a piece."""
LOOK_S = 1.0
"""How often a worker looks whether the driver was interrupted."""
FIRST_WAIT_S = 1.0
_temporary = count()


class Stopped(Exception):
    """The driver was interrupted."""


@dataclass(frozen=True)
class Job:
    """What all tasks of an ingest are told. It is pickled, and small.

    Attributes:
        folder: the work folder, which all machines see.
        token: what stands in it, to see that it is the same.
        source_fingerprint: of the source, as the driver sees it.
        remote, read, facts, texts, test_fraction, in_workers: see `d2v.data.ingest.ingest`.
        versions: of the driver.
    """

    folder: Path
    token: str
    source_fingerprint: str
    remote: Remote
    read: Reader
    facts: tuple[str, ...]
    texts: tuple[str, ...]
    test_fraction: float
    in_workers: bool
    versions: Mapping[str, str]

    @property
    def config(self) -> ClusterConfig:
        """The cluster."""
        return self.remote.config


@dataclass(frozen=True)
class Piece:
    """A piece that was read, without its items' records.

    Attributes:
        start: index of its first item.
        end: index behind its last one.
        is_last: whether the source ends there.
        seconds: that it took.
        rows: one for each item, see `ROW`.
    """

    start: int
    end: int
    is_last: bool
    seconds: float
    rows: Sequence[Sequence[Any]]


ROW = (
    "key",
    "split",
    "label",
    "group",
    "fold",
    "items",
    "reason",
    "sha256",
    "bytes",
    "note",
    "origin",
    "texts",
    "facts",
)
"""What is said of an item: `reason` of its quarantine, or null and the rest."""


# ---------------------------------------------------------------------------------------------- files


def said_path(folder: Path, start: int) -> Path:
    """The file with what is said of a piece's items. It is written last."""
    return folder / PIECES / f"{start:012d}.json"


def data_path(folder: Path, start: int) -> Path:
    """The file with the records of a piece's items."""
    return folder / PIECES / f"{start:012d}.arrow"


def read_said(path: Path) -> Piece | None:
    """A piece that was read; None where its file is not there or was cut off."""
    try:
        return Piece(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _new_name(path: Path) -> Path:
    """A name for a file until it is whole, which no other task uses, on whatever machine."""
    name = f"{path.name}.{os.uname().nodename}.{os.getpid()}.{next(_temporary)}"
    return path.parent.with_name(UNFINISHED) / name


# --------------------------------------------------------------------------------------------- worker


class _Worker:
    """What a process keeps for the tasks of one job: the opened source, and for each thread where it is reading."""

    def __init__(self, job: Job) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.job, self.source = job, job.remote.open_source()
        if self.source.fingerprint != job.source_fingerprint:
            raise DataError(
                f"The worker on {os.uname().nodename} sees other data than the command that it works for at "
                f"{self.source.description}: give the source a path or a URL that is the same on all machines, and "
                "leave it alone while it is read"
            )
        self._threads = threading.local()
        self._inspections: list[Inspection] = []

    def inspection(self, careful: bool) -> Inspection:
        """What reads items for this thread; its process lives on between tasks."""
        name = f"inspection_{careful}"
        if not hasattr(self._threads, name):
            made = Inspection(self.job.read, careful or self.job.in_workers, threads=1, one_by_one=careful)
            setattr(self._threads, name, made)
            self._inspections.append(made)
        found: Inspection = getattr(self._threads, name)
        return found

    def close(self) -> None:
        """End the processes."""
        for inspection in self._inspections:
            inspection.__exit__()

    def items(self, start: int) -> Iterator[Item]:
        """Items from `start` on, with the position of this thread kept up to date. It goes on from there where that is
        cheaper than to begin anew."""
        position: int | None = getattr(self._threads, "position", None)
        if position is None or not _goes_on(self.source, position, start):
            self.forget_position()
            self._threads.items, position = self.source.items(start), start
        self._threads.position = position
        for item in self._threads.items:
            first, position = position, position + item.rows
            self._threads.position = position
            if first >= start:
                yield item

    def forget_position(self) -> None:
        """Close what this thread reads."""
        if (items := getattr(self._threads, "items", None)) is not None and hasattr(items, "close"):
            with suppress(Exception):
                items.close()
        self._threads.items = self._threads.position = None


def _goes_on(source: Source, position: int, start: int) -> bool:
    """Whether to read on from `position` to reach `start`."""
    if position >= start or source.total is not None:
        return position == start
    return not any(position < cut <= start for cut in source.cuts())


_workers: dict[str, _Worker] = {}
_workers_lock = threading.Lock()


def _worker_of(job: Job) -> _Worker:
    """The one of this process; one of an earlier job is forgotten."""
    with _workers_lock:
        if job.token not in _workers:
            made = _Worker(job)
            for old in _workers.values():
                old.close()
            _workers.clear()
            _workers[job.token] = made
        return _workers[job.token]


# ---------------------------------------------------------------------------------------------- tasks


def read_piece(job: Job, start: int, stop: int, careful: bool = False) -> tuple[int, int, float]:
    """Read the items from `start` to `stop`, and write what was read beside what is said of it.

    A piece whose last item was refused goes on for some items, as a table that is damaged lists some rows and counts
    the rest: only who met the damage knows where that ends.

    Args:
        job: of the ingest.
        start, stop: indices of items.
        careful: the piece has ended a worker, so each item is read in a process of its own.

    Returns:
        Index of the first item, the index behind the last one, and seconds.

    Raises:
        DataError: the source cannot be read, also after some tries.
    """
    worker, began_s = _worker_of(job), time.monotonic()
    for attempt in count(1):
        try:
            rows, end, is_last = _read(worker, job, start, stop, careful)
            break
        except Stopped:
            raise
        except Exception as error:
            worker.forget_position()
            if not is_of_storage(error) or attempt > job.config.retries:
                if attempt > 1:
                    raise DataError(f"Items {start:,} to {stop - 1:,} were tried {attempt} times: {error}") from error
                raise
            wait_s = FIRST_WAIT_S * 2 ** (attempt - 1)
            log(f"ingest: reading items {start:,} to {stop - 1:,} failed ({error}); once more in {wait_s:g} s")
            time.sleep(wait_s)
    seconds = round(time.monotonic() - began_s, 3)
    said = {"start": start, "end": end, "is_last": is_last, "seconds": seconds, "rows": rows}
    path = said_path(job.folder, start)
    temporary = _new_name(path)
    temporary.write_text(json.dumps(said, separators=(",", ":")))
    sync(temporary)
    temporary.replace(path)
    return start, end, seconds


def _read(worker: _Worker, job: Job, start: int, stop: int, careful: bool) -> tuple[list[list[Any]], int, bool]:
    reached = _Reached(start)
    items = _bounded(worker.items(start), stop, reached, job.folder)
    rows: list[list[Any]] = []
    path = data_path(job.folder, start)
    temporary = _new_name(path)
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, DATA) as file:
            held, size = list[bytes | None](), 0
            for outcome in worker.inspection(careful).outcomes(items):
                rows.append(_row(job, outcome))
                held.append(outcome.record.data if outcome.record else None)
                size += rows[-1][ROW.index("bytes")]
                if size >= BATCH_BYTES:
                    file.write_batch(_batch(held))
                    held, size = [], 0
            if held:
                file.write_batch(_batch(held))
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows, reached.position, reached.is_last


@dataclass
class _Reached:
    position: int
    is_last: bool = True


def _bounded(items: Iterator[Item], stop: int, reached: _Reached, folder: Path) -> Iterator[Item]:
    """Items up to `stop`, and behind it as long as what was refused there may go on."""
    looked_s, further = 0.0, 0
    for item in items:
        if time.monotonic() - looked_s > LOOK_S:
            if machine.is_stopped(folder):
                raise Stopped("the command that this is read for was interrupted")
            looked_s = time.monotonic()
        reached.position += item.rows
        yield item
        if reached.position >= stop:
            further += 1
            if (not item.refused and item.data is not None) or further > LISTED_ROWS + 1:
                reached.is_last = False
                return


def _batch(values: Sequence[bytes | None]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.large_binary())], schema=DATA)


def _row(job: Job, outcome: Outcome) -> list[Any]:
    item, record = outcome.item, outcome.record
    if record is None:
        return [item.key, None, None, None, None, item.rows, outcome.reason, None, 0, None, None, None, None]
    said = {**item.texts, **record.texts}
    split = split_of(item, outcome.digest, job.test_fraction)
    texts = [said.get(name) for name in job.texts]
    facts = [int(record.facts[name]) for name in job.facts]
    about = [item.key, split, item.label, item.group, item.fold, item.rows, None]
    return [*about, outcome.digest.hex(), len(record.data), record.note, dict(record.origin), texts, facts]


def write_shard(job: Job, number: int, runs: Sequence[tuple[int, int, int]]) -> int:
    """Write a shard of the corpus.

    Args:
        job: of the ingest.
        number: of the shard.
        runs: (start of a piece, first row, number of rows) one after the other.

    Returns:
        Its number.
    """
    machine.check(job.versions, job.folder, job.token)
    if machine.is_stopped(job.folder):
        raise Stopped("the command that this is written for was interrupted")
    final = shard_path(job.folder / SHARDS, number)
    own = _new_name(final)  # a folder, as the writer has its own names of files
    try:
        writer = ShardWriter(own, schema_of(job.facts, job.texts), 2**63 - 1, first=number)
        for start, first, rows in runs:
            for row in _rows_of_piece(job, start, first, rows):
                writer.append(row)
        writer.flush()
        written = shard_path(own, number)
        with written.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        said = own / "digest"
        said.write_text(digest)
        said.replace(job.folder / DIGESTS / final.name)
        written.replace(final)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return number


def _rows_of_piece(job: Job, start: int, first: int, rows: int) -> Iterator[Mapping[str, Any]]:
    piece, path = read_said(said_path(job.folder, start)), data_path(job.folder, start)
    if piece is None or not path.exists():
        raise DataError(f"The piece {path} is gone: remove {job.folder} and run the same command again")
    values = _values(path, first, rows)
    for said, data in zip(piece.rows[first : first + rows], values, strict=True):
        of = dict(zip(ROW, said, strict=True))
        row = {name: of[name] for name in ("key", "split", "label", "note", "group", "fold")}
        row |= dict(zip(job.texts, of["texts"], strict=True)) | dict(zip(job.facts, of["facts"], strict=True))
        yield row | {"sha256": bytes.fromhex(of["sha256"]), "data": data}


def _values(path: Path, first: int, rows: int) -> Iterator[bytes]:
    """Values of a piece's file from a row on."""
    with pa.memory_map(str(path)) as content:
        file = pa.ipc.open_file(content)
        begin = 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            inside = batch.slice(
                max(first - begin, 0), max(min(first + rows, begin + len(batch)) - max(first, begin), 0)
            )
            if first < begin + len(batch):
                yield from inside.column(0).to_pylist()
            begin += len(batch)
            if begin >= first + rows:
                return


def digest_of_shard(folder: Path, number: int) -> str | None:
    """SHA-256 of a shard that is there with its digest, else None."""
    path = shard_path(folder / SHARDS, number)
    try:
        digest = (folder / DIGESTS / path.name).read_text()
    except OSError:
        return None
    return digest if path.is_file() and len(digest) == 64 else None
