"""Rows of prepared parts, made by the workers of a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pyarrow as pa

from d2v.config import ClusterConfig
from d2v.data import fingerprint
from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster
from d2v.data.cluster.files import (
    Kept,
    Piece,
    Run,
    check_running,
    data_file,
    data_path,
    digests_of_shards,
    make_folders,
    mirror_of,
    new_name,
    only,
    put_shards,
    records,
    said_path,
    save_shard,
    take_shards,
    with_retries,
    work_root,
    write_said,
)
from d2v.data.cluster.stream import ShardPlan, Stream, whole_piece
from d2v.data.disk import write_json
from d2v.data.ingest import SHARDS as CORPUS_SHARDS
from d2v.data.prepared import KNOWN_DIGESTS, SHARD_BYTES, Columns, Corpus, Facts, Make, RowWriter
from d2v.data.store import ShardReader, read_batch, shard_path
from d2v.data.url_cache import fetched
from d2v.data.url_paths import absolute, bring, is_url, local_copy, remove_folder, written_whole
from d2v.progress import Progress

ROWS, STARTS, COLUMNS = "rows.npy", "starts.npy", "columns.arrow"
"""Files of a work folder: the row of the corpus's shards of each item, the first row of each shard, and what the driver
knows of each item."""
BYTES = "bytes"


@dataclass(frozen=True)
class RowsJob:
    """See `d2v.data.cluster.files.Job`.

    Attributes:
        shards: of the corpus.
        make: see `d2v.data.prepared.Make`; it is pickled.
        schema: of the part's shards.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    config: ClusterConfig
    shards: Path
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
        shards: of the corpus.
        opened: see `OpenMaker`.
        files: what it reads in the work folder.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    config: ClusterConfig
    shards: Path
    opened: OpenMaker
    files: tuple[str, ...] = ()


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
        self.root = work_root(config, folder)
        self.work = only(self.root, fingerprint.of_values(shaping)[:16])

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.cluster = stack.enter_context(Cluster(self.config, "prepare"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None and self.config.exchange is not None:
            remove_folder(self.root)

    @cached_property
    def shards(self) -> Path:
        """The corpus's shards as workers see them."""
        own = self.corpus.folder.absolute() / CORPUS_SHARDS
        if self.config.exchange is None:
            return own
        mirror = mirror_of(self.config, self.corpus.folder, self.corpus.fingerprint)
        put_shards(self, own, only(mirror.parent, mirror.name))
        return mirror

    def begin(self, part: str, items: np.ndarray, known: pa.Table | None) -> dict[str, Any]:
        """Make the work folder of a part.

        Args:
            part: its name.
            items: of the corpus.
            known: what the driver knows of each of them, if it does.

        Returns:
            What every job of it is told.
        """
        folder = absolute(self.work / part)
        make_folders(folder)
        of_shards = list(self.corpus.shards.starts)
        for name, numbers in ((ROWS, self.corpus.rows_of(items)), (STARTS, of_shards)):
            with written_whole(folder / name, new_name(said_path(folder, 0))) as local, local.open("wb") as sink:
                np.save(sink, numbers)
        if known is not None:
            with (
                written_whole(folder / COLUMNS, new_name(said_path(folder, 0))) as local,
                pa.OSFile(str(local), "wb") as sink,
                pa.ipc.new_file(sink, known.schema) as file,
            ):
                file.write_table(known)
        return {
            "folder": folder,
            "token": machine.mark(folder),
            "versions": machine.versions(),
            "config": self.config,
            "shards": self.shards,
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
        if kind is None:
            known: dict[str, str] = {}
            for part in self.parts:
                known |= digests_of_shards(self._prepare.work / part, part)
                take_shards(self._prepare, self._prepare.work / part, self.folder / part)
            write_json(self.folder / KNOWN_DIGESTS, known)
        self._prepare.__exit__(kind)

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
        work = _Part(RecordsJob(**given, opened=opened, files=tuple(files)), len(items), None)
        for piece in Stream(work, self.cluster, "prepare").pieces(progress):
            with local_copy(data_path(given["folder"], piece.start)) as local:
                found = records(local, 0, len(piece.rows))
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


class FetchedShards(threading.local):
    """Rows of shards behind a URL. The cache of this machine has the files, and each thread keeps open the one that it
    last read from.

    Args:
        folder: of the shards.
        starts: (shards + 1,) first row of each.
    """

    def __init__(self, folder: Path, starts: np.ndarray) -> None:
        self.folder, self.starts = folder, starts
        self._shard = -1

    def binary(self, name: str, row: int) -> bytes:
        """One value of a binary column."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        if shard != self._shard:
            with fetched(str(shard_path(self.folder, shard))) as local:
                self._batch = read_batch(local)  # it is mapped, so the cache may remove the file
            self._shard = shard
        return bytes(self._batch.column(name)[row - int(self.starts[shard])].as_py())


class _Opened:
    """A corpus and the items of a part, as a worker keeps them for its tasks."""

    def __init__(self, job: RowsJob | RecordsJob) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.job, self._stack = job, ExitStack()
        self.rows = np.load(self._local(ROWS), mmap_mode="r")

    def close(self) -> None:
        """Remove the copies of files."""
        self._stack.close()

    def _local(self, name: str) -> Path:
        return self._stack.enter_context(local_copy(self.job.folder / name))

    @cached_property
    def shards(self) -> ShardReader | FetchedShards:
        """Of the corpus."""
        if is_url(self.job.shards):
            return FetchedShards(self.job.shards, np.load(self._local(STARTS)))
        return ShardReader(self.job.shards)

    @cached_property
    def maker(self) -> Maker:
        """Of records."""
        if not isinstance(self.job, RecordsJob):
            raise TypeError("a job of rows makes no records")
        if not is_url(self.job.folder):
            return self.job.opened(self.job.folder)
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="d2v-")))
        for name in self.job.files:
            bring(self.job.folder / name, folder / name)
        return self.job.opened(folder)

    @cached_property
    def columns(self) -> Path | None:
        """A local file with what the driver knows of each item, if it does."""
        return self._local(COLUMNS) if (self.job.folder / COLUMNS).exists() else None

    def stored(self, start: int, stop: int) -> Iterator[Stored]:
        """What the corpus stores of some items, and what the driver knows of each."""
        known: list[dict[str, Any]] = [{}] * (stop - start)
        if self.columns is not None:
            table = pa.ipc.open_file(pa.memory_map(str(self.columns))).read_all()
            known = table.slice(start, stop - start).to_pylist()
        for row, said in zip(self.rows[start:stop], known, strict=True):
            check_running(self.job)
            yield self.shards.binary("data", int(row)), said


_opened: Kept[RowsJob | RecordsJob, _Opened] = Kept(_Opened, _Opened.close)


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
    write_said(job, Piece(start, stop, False, seconds, said))


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
    write_said(job, Piece(start, stop, False, seconds, said))


def write_rows(job: RowsJob, number: int, runs: Sequence[Run]) -> None:
    """Write a shard of a part."""
    opened = _opened.of(job)
    check_running(job)
    table = pa.ipc.open_file(pa.memory_map(str(opened.columns))).read_all()

    def columns(piece: Piece, rows: slice) -> dict[str, list[Any]]:
        known = table.slice(piece.start + rows.start, rows.stop - rows.start).to_pydict()
        said = piece.rows[rows]
        found = {name: [one[name] for one in said] for name in job.schema.names if name in said[0]}
        return known | found

    save_shard(job, number, job.schema, runs, columns)
