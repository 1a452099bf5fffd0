"""Rows of prepared parts, made by the workers of a cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

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
    records,
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


Stored = tuple[bytes, Mapping[str, Any]]
"""What the corpus stores of an item, and what the driver knows of it."""
Maker = Callable[[Iterator[Stored]], Iterator[tuple[bytes, Facts]]]
"""Makes records of items that follow one another, as many as it likes, with facts about each."""
OpenMaker = Callable[[Path], Maker]
"""Makes the maker on a worker, from the files of a folder. A module's function, or a partial of one: it is pickled."""


@dataclass(frozen=True)
class RecordsJob:
    """See `d2v.data.cluster.files.Job`.

    Attributes:
        corpus: its folder.
        opened: see `OpenMaker`.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    config: ClusterConfig
    corpus: Path
    opened: OpenMaker


class _Prepare:
    """The work of a prepare step on a cluster, part by part.

    Args:
        corpus: whose items.
        folder: that is being prepared.
        config: the cluster.
        parameters: all that shapes the records.
    """

    def __init__(self, corpus: Corpus, folder: Path, config: ClusterConfig, parameters: Mapping[str, Any]) -> None:
        self.corpus, self.config = corpus, config
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

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.cluster = stack.enter_context(Cluster(self.config, "prepare"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, part: str, items: np.ndarray, known: pa.Table | None) -> dict[str, Any]:
        """Make the work folder of a part.

        Args:
            part: its name.
            items: of the corpus.
            known: what the driver knows of each of them, if it does.

        Returns:
            What every job of it is told.
        """
        folder = self.work / part
        make_folders(folder)
        np.save(folder / ROWS, self.corpus.rows_of(items))
        if known is not None:
            with pa.OSFile(str(folder / COLUMNS), "wb") as sink, pa.ipc.new_file(sink, known.schema) as file:
                file.write_table(known)
        return {
            "folder": folder.absolute(),
            "token": machine.mark(folder),
            "versions": machine.versions(),
            "config": self.config,
            "corpus": self.corpus.folder.absolute(),
        }


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
        self._prepare = _Prepare(corpus, folder, config, parameters)
        self.parts: list[str] = []

    def __enter__(self) -> ClusterRowWriter:
        self._prepare.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._prepare.__exit__()
        if kind is None:
            known: dict[str, str] = {}
            for part in self.parts:
                known |= digests_of_shards(self._prepare.work / part, part)
                (self._prepare.work / part / SHARDS).rename(self.folder / part)
            write_json(self.folder / KNOWN_DIGESTS, known)

    def write(
        self, part: str, schema: pa.Schema, items: np.ndarray, make: Make, columns: Columns, progress: Progress
    ) -> Iterator[Facts]:
        """See `RowWriter.write`. All facts come after all rows."""
        known = [field for field in schema if field.name in columns(int(items[0]))] if len(items) else []
        table = pa.Table.from_pylist([columns(int(item)) for item in items], schema=pa.schema(known))
        job = RowsJob(**self._prepare.begin(part, items, table), make=make, schema=schema)
        work = _Part(job, len(items), ShardPlan(SHARD_BYTES))
        Stream(work, self._prepare.cluster, "prepare").run(progress)
        self.parts.append(part)
        for start in range(0, len(items), job.config.piece_items):
            yield from whole_piece(job.folder, start).rows


class ClusterRecords(_Prepare):
    """What a function makes of items, in their order: the workers of a cluster make it, and this process reads it."""

    def make(
        self,
        part: str,
        items: np.ndarray,
        opened: OpenMaker,
        files: Mapping[str, str],
        known: pa.Table | None,
        progress: Progress,
    ) -> Iterator[tuple[bytes, Facts]]:
        """Records and facts about them. The workers go on while these are used; a command that was interrupted does not
        have them made again.

        Args:
            part: name of these items, another one each time.
            items: of the corpus.
            opened: see `OpenMaker`.
            files: what it reads: names and contents.
            known: columns for `Stored`, a row an item.
            progress: counts the items.
        """
        given = self.begin(part, items, known)
        for name, content in files.items():
            (given["folder"] / name).write_text(content, encoding="utf-8")
        work = _Part(RecordsJob(**given, opened=opened), len(items), None)
        for piece in Stream(work, self.cluster, "prepare").pieces(progress):
            found = records(data_path(given["folder"], piece.start), 0, len(piece.rows))
            values = (value.as_py() for array in found for value in array)
            yield from zip(values, piece.rows, strict=True)


class _Part:
    """See `d2v.data.cluster.stream.Work`."""

    detail = ""

    def __init__(self, job: RowsJob | RecordsJob, total: int, plan: ShardPlan | None) -> None:
        self.job, self.total, self.done, self.plan = job, total, 0, plan
        self.read_task, self.write_task = (make_piece if isinstance(job, RowsJob) else make_records), write_rows

    def hand_out(self, start: int, stop: int) -> None:
        """A worker has all that it needs."""

    def take_piece(self, piece: Piece) -> None:
        """Find the shards of its rows."""
        if self.plan is not None:
            for number, facts in enumerate(piece.rows):
                self.plan.at(piece.start, number, facts[BYTES])
                self.plan.append({})
        self.done += piece.end - piece.start


# --------------------------------------------------------------------------------------------- worker


class _Opened:
    """A corpus and the items of a part, as a worker keeps them for its tasks."""

    def __init__(self, job: RowsJob | RecordsJob) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.job = job
        self.rows = np.load(job.folder / ROWS, mmap_mode="r")

    @cached_property
    def shards(self) -> ShardReader:
        """Of the corpus."""
        return ShardReader(self.job.corpus / CORPUS_SHARDS)

    @cached_property
    def maker(self) -> Maker:
        """Of records."""
        if not isinstance(self.job, RecordsJob):
            raise TypeError("a job of rows makes no records")
        return self.job.opened(self.job.folder)

    def stored(self, start: int, stop: int) -> Iterator[Stored]:
        """What the corpus stores of some items, and what the driver knows of each."""
        known: list[dict[str, Any]] = [{}] * (stop - start)
        if (self.job.folder / COLUMNS).exists():
            table = pa.ipc.open_file(pa.memory_map(str(self.job.folder / COLUMNS))).read_all()
            known = table.slice(start, stop - start).to_pylist()
        for row, said in zip(self.rows[start:stop], known, strict=True):
            check_running(self.job)
            yield self.shards.binary("data", int(row)), said


_opened: Kept[RowsJob | RecordsJob, _Opened] = Kept(_Opened)


def make_piece(job: RowsJob, start: int, stop: int, careful: bool = False) -> None:
    """Make the rows `start` to `stop` of a part.

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


def make_records(job: RecordsJob, start: int, stop: int, careful: bool = False) -> None:
    """Make the records of the items `start` to `stop` of a part.

    Raises:
        DataError: the corpus cannot be read, also after some tries.
    """
    opened, began_s = _opened.of(job), time.monotonic()

    def make() -> list[Facts]:
        said = []
        with data_file(data_path(job.folder, start)) as append:
            for data, facts in opened.maker(opened.stored(start, stop)):
                append(data)
                said.append(facts)
        return said

    said = with_retries(job, f"Items {start:,} to {stop - 1:,}", make, lambda: None)
    seconds = round(time.monotonic() - began_s, 3)
    write_said(job.folder, Piece(start, stop, False, seconds, said))


def write_rows(job: RowsJob, number: int, runs: Sequence[Run]) -> None:
    """Write a shard of a part."""
    _opened.of(job)
    check_running(job)
    table = pa.ipc.open_file(pa.memory_map(str(job.folder / COLUMNS))).read_all()

    def columns(piece: Piece, rows: slice) -> dict[str, list[Any]]:
        known = table.slice(piece.start + rows.start, rows.stop - rows.start).to_pydict()
        said = piece.rows[rows]
        found = {name: [one[name] for one in said] for name in job.schema.names if name in said[0]}
        return known | found

    save_shard(job, number, job.schema, runs, columns)


def work_folder(folder: Path) -> Path:
    """Where a folder that is being prepared has its work, whatever the recipe."""
    return folder.with_name(folder.name.removesuffix(".partial") + ".cluster")
