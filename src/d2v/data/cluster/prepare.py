"""Rows of prepared parts, made by the workers of a cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.config import ClusterConfig
from d2v.data import fingerprint
from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster
from d2v.data.cluster.files import (
    SHARDS,
    Kept,
    Piece,
    Run,
    check_running,
    data_file,
    data_path,
    digests_of_shards,
    make_folders,
    save_shard,
    with_retries,
    write_said,
)
from d2v.data.cluster.stream import ShardPlan, Stream, whole_piece
from d2v.data.disk import write_json
from d2v.data.ingest import SHARDS as CORPUS_SHARDS
from d2v.data.prepared import KNOWN_DIGESTS, SHARD_BYTES, Columns, Corpus, Facts, Make, RowWriter
from d2v.data.store import ShardReader
from d2v.progress import Progress

ROWS, COLUMNS = "rows.npy", "columns.arrow"
"""Files of a work folder: the row of the corpus's shards of each item, and what the driver knows of it."""
BYTES = "bytes"


@dataclass(frozen=True)
class RowsJob:
    """See `d2v.data.cluster.files.Job`.

    Attributes:
        corpus: its folder.
        make: see `d2v.data.prepared.Make`; it is pickled.
        schema: of the part's shards.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    config: ClusterConfig
    corpus: Path
    make: Make
    schema: pa.Schema


class ClusterRowWriter(RowWriter):
    """Writes parts with a cluster, with the bytes of one process. The parts appear in the folder when all are whole.

    Args:
        corpus: whose items.
        folder: that is being prepared.
        config: the cluster.
        parameters: all that shapes the rows.
    """

    def __init__(self, corpus: Corpus, folder: Path, config: ClusterConfig, parameters: Mapping[str, Any]) -> None:
        super().__init__(corpus, folder)
        self.config = config
        shaping = {
            "corpus": corpus.fingerprint,
            "parameters": dict(parameters),
            "piece_items": config.piece_items,
            "versions": machine.versions(),
        }
        every = work_folder(folder)
        self.work = every / fingerprint.of_values(shaping)[:16]
        for old in every.glob("*"):
            if old != self.work:
                shutil.rmtree(old, ignore_errors=True)
        self.parts: list[str] = []

    def __enter__(self) -> ClusterRowWriter:
        with ExitStack() as stack:
            self.cluster = stack.enter_context(Cluster(self.config, "prepare"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None:
            known: dict[str, str] = {}
            for part in self.parts:
                known |= digests_of_shards(self.work / part, part)
                (self.work / part / SHARDS).rename(self.folder / part)
            write_json(self.folder / KNOWN_DIGESTS, known)

    def write(
        self, part: str, schema: pa.Schema, items: np.ndarray, make: Make, columns: Columns, progress: Progress
    ) -> Iterator[Facts]:
        """See `RowWriter.write`. All facts come after all rows."""
        folder = self.work / part
        make_folders(folder)
        np.save(folder / ROWS, self.corpus.rows_of(items))
        known = [field for field in schema if field.name in columns(int(items[0]))] if len(items) else []
        table = pa.Table.from_pylist([columns(int(item)) for item in items], schema=pa.schema(known))
        with pa.OSFile(str(folder / COLUMNS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        token, where = machine.mark(folder), folder.absolute()
        job = RowsJob(where, token, machine.versions(), self.config, self.corpus.folder.absolute(), make, schema)
        work = _Part(job, len(items))
        Stream(work, self.cluster, "prepare").run(progress)
        self.parts.append(part)
        for start in range(0, len(items), self.config.piece_items):
            yield from whole_piece(folder, start).rows


class _Part:
    """See `d2v.data.cluster.stream.Work`."""

    detail = ""

    def __init__(self, job: RowsJob, total: int) -> None:
        self.job, self.total, self.done, self.plan = job, total, 0, ShardPlan(SHARD_BYTES)
        self.read_task, self.write_task = make_piece, write_rows

    def take_piece(self, piece: Piece) -> None:
        """Find the shards of its rows."""
        for number, facts in enumerate(piece.rows):
            self.plan.at(piece.start, number, facts[BYTES])
            self.plan.append({})
            self.done += 1


# --------------------------------------------------------------------------------------------- worker


class _Opened:
    """A corpus and the items of a part, as a worker keeps them for its tasks."""

    def __init__(self, job: RowsJob) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.job = job
        self.rows = np.load(job.folder / ROWS)

    @cached_property
    def shards(self) -> ShardReader:
        """Of the corpus."""
        return ShardReader(self.job.corpus / CORPUS_SHARDS)


_opened = Kept(_Opened)


def make_piece(job: RowsJob, start: int, stop: int, careful: bool = False) -> float:
    """Make the rows `start` to `stop` of a part. Returns seconds.

    Raises:
        DataError: the corpus cannot be read, also after some tries.
    """
    opened, began_s = _opened.of(job), time.monotonic()

    def make() -> list[dict[str, Any]]:
        said = []
        with data_file(data_path(job.folder, start)) as append:
            for row in opened.rows[start:stop]:
                check_running(job)
                data, facts = job.make(opened.shards.binary("data", int(row)))
                append(data)
                said.append({**facts, BYTES: len(data)})
        return said

    said = with_retries(job, f"Items {start:,} to {stop - 1:,}", make, lambda: None)
    seconds = round(time.monotonic() - began_s, 3)
    write_said(job.folder, Piece(start, stop, False, seconds, said))
    return seconds


def write_rows(job: RowsJob, number: int, runs: Sequence[Run]) -> int:
    """Write a shard of a part. Returns its number."""
    _opened.of(job)
    check_running(job)
    table = pa.ipc.open_file(pa.memory_map(str(job.folder / COLUMNS))).read_all()

    def columns(piece: Piece, rows: slice) -> dict[str, list[Any]]:
        known = table.slice(piece.start + rows.start, rows.stop - rows.start).to_pydict()
        said = piece.rows[rows]
        found = {name: [one[name] for one in said] for name in job.schema.names if name in said[0]}
        return known | found

    return save_shard(job, number, job.schema, runs, columns)


def work_folder(folder: Path) -> Path:
    """Where a folder that is being prepared has its work, whatever the recipe."""
    return folder.with_name(folder.name.removesuffix(".partial") + ".cluster")
