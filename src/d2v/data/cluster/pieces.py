"""The two tasks of an ingest on a cluster: read a piece of the source, write a shard of the corpus."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2v.config import ClusterConfig
from d2v.data.cluster import machine
from d2v.data.cluster.files import (
    Kept,
    Piece,
    Run,
    check_running,
    data_file,
    data_path,
    range_path,
    read_range,
    save_shard,
    with_retries,
    write_said,
)
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import Inspection, Outcome, Reader, schema_of, split_of
from d2v.data.sources.listing import Found, listed
from d2v.data.sources.row_sources import LISTED_ROWS
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError, is_of_storage

LISTINGS = "listings.json"
"""A file of the work folder: folders of the source with their files, as the driver listed them."""
ROW = ("key", "items", "reason", "split", "label", "group", "fold", "note", "sha256", "bytes", "origin")
"""What is said of an item beside its texts and facts: `reason` of its quarantine, or null and the rest."""
_OWN = "own "
"""Before the names of a modality's texts and facts, which may be any."""
KEPT = ("key", "split", "label", "note", "group", "fold")
"""What of it the corpus keeps as it is."""


@dataclass(frozen=True)
class IngestJob:
    """See `d2v.data.cluster.files.Job`.

    Attributes:
        source_fingerprint: of the source, as the driver sees it.
        remote, read, facts, texts, test_fraction, in_workers: see `d2v.data.ingest.ingest`.
        has_ranges: the driver writes a list of the items of each piece.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    source_fingerprint: str
    remote: Remote
    read: Reader
    facts: tuple[str, ...]
    texts: tuple[str, ...]
    test_fraction: float
    in_workers: bool
    has_ranges: bool

    @property
    def config(self) -> ClusterConfig:
        """The cluster."""
        return self.remote.config


class _Worker:
    """What a process keeps for the tasks of one job: the opened source, unless the driver lists its items, and for each
    thread where it is reading."""

    def __init__(self, job: IngestJob) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.job = job
        self.source = None if job.has_ranges else self._open(job)
        self._threads = threading.local()
        self._inspections: list[Inspection] = []

    def _open(self, job: IngestJob) -> Source:
        listings = json.loads((job.folder / LISTINGS).read_text())
        try:
            with listed({name: [Found(*file) for file in files] for name, files in listings.items()}):
                source = job.remote.open_source()
        except DataError as error:
            if is_of_storage(error):
                raise
            raise _sees_other_data(str(error)) from error
        if source.fingerprint != job.source_fingerprint:
            raise _sees_other_data(source.description)
        return source

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
        if self.source is None:
            yield from self._listed(start)
            return
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

    def _listed(self, start: int) -> Iterator[Item]:
        """The items that the driver lists for a piece."""
        yield from listed_items(range_path(self.job.folder, start), self.job.remote.options)

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


def listed_items(path: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Items that the driver lists.

    Args:
        path: of its list.
        options: of the source's file system.

    Raises:
        DataError: they are not what was listed.
    """
    found = read_range(path)
    try:
        found.check(options)
    except DataError as error:
        if is_of_storage(error):
            raise
        raise _sees_other_data(str(error)) from error
    return found.items(options)


def _sees_other_data(what: str) -> DataError:
    return DataError(
        f"The worker on {os.uname().nodename} sees other data than the command that it works for: {what.rstrip('.')}. "
        "Give the source a path or a URL that is the same on all machines, and leave it alone while it is read"
    )


_workers = Kept(_Worker, _Worker.close)


def _forget_position(job: IngestJob) -> None:
    if worker := _workers.there(job):
        worker.forget_position()


# ---------------------------------------------------------------------------------------------- tasks


def read_piece(job: IngestJob, start: int, stop: int, careful: bool = False) -> None:
    """Read the items from `start` to `stop`, and write what was read beside what is said of it.

    A piece whose last item was refused goes on for some items, as a table that is damaged lists some rows and counts
    the rest: only who met the damage knows where that ends.

    Args:
        job: of the ingest.
        start, stop: indices of items.
        careful: the piece has ended a worker, so each item is read in a process of its own.

    Raises:
        DataError: the source cannot be read, also after some tries.
    """
    began_s = time.monotonic()

    def read() -> tuple[list[tuple[Any, ...]], _Reached]:
        worker, reached = _workers.of(job), _Reached(start)
        items = _bounded(worker.items(start), stop, reached, job)
        rows: list[tuple[Any, ...]] = []
        with data_file(data_path(job.folder, start)) as append:
            for outcome in worker.inspection(careful).outcomes(items):
                rows.append(_row(job, outcome))
                append(outcome.record.data if outcome.record else None)
        return rows, reached

    rows, reached = with_retries(job, f"Items {start:,} to {stop - 1:,}", read, lambda: _forget_position(job))
    seconds = round(time.monotonic() - began_s, 3)
    names = (*ROW, *(_OWN + name for name in (*job.texts, *job.facts)))
    columns = dict(zip(names, map(list, zip(*rows, strict=True)) if rows else [[] for _ in names], strict=True))
    write_said(job, Piece(start, reached.position, reached.is_last, seconds, columns))


@dataclass
class _Reached:
    position: int
    is_last: bool = True


def _bounded(items: Iterator[Item], stop: int, reached: _Reached, job: IngestJob) -> Iterator[Item]:
    """Items up to `stop`, and behind it as long as what was refused there may go on."""
    further = 0
    for item in items:
        check_running(job)
        reached.position += item.rows
        yield item
        if reached.position >= stop:
            further += 1
            if (not item.refused and item.data is not None) or further > LISTED_ROWS + 1:
                reached.is_last = False
                return


def _row(job: IngestJob, outcome: Outcome) -> tuple[Any, ...]:
    item, record = outcome.item, outcome.record
    if record is None:
        return (item.key, item.rows, outcome.reason, *[None] * (len(ROW) - 3 + len(job.texts) + len(job.facts)))
    said = {**item.texts, **record.texts}
    split = split_of(item, outcome.digest, job.test_fraction)
    return (
        *(item.key, item.rows, None, split, item.label, item.group, item.fold, record.note, outcome.digest.hex()),
        *(len(record.data), dict(record.origin)),
        *(said.get(name) for name in job.texts),
        *(int(record.facts[name]) for name in job.facts),
    )


def write_shard(job: IngestJob, number: int, runs: Sequence[Run]) -> None:
    """Write a shard of the corpus: some rows of some pieces, one after the other."""
    machine.check(job.versions, job.folder, job.token)
    check_running(job)

    def columns(piece: Piece, rows: slice) -> Mapping[str, list[Any]]:
        found = {name: piece.rows[name][rows] for name in KEPT}
        found |= {name: piece.rows[_OWN + name][rows] for name in (*job.texts, *job.facts)}
        return found | {"sha256": [bytes.fromhex(digest) for digest in piece.rows["sha256"][rows]]}

    save_shard(job, number, schema_of(job.facts, job.texts), runs, columns)
