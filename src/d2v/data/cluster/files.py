"""The files of a work folder: what workers leave for the driver and for one another."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from d2v.config import ClusterConfig
from d2v.data.cluster import machine
from d2v.data.disk import sync
from d2v.data.sources.source import ItemRange
from d2v.data.store import shard_path, write_shard
from d2v.data.url_paths import bring, inside, is_url, local_copy, place_of, put, remove_folder, written_whole
from d2v.errors import DataError, is_of_storage
from d2v.progress import log

PIECES, SHARDS, DIGESTS, UNFINISHED, RANGES = "pieces", "shards", "digests", "unfinished", "ranges"
"""Folders of a work folder. What is written lies in `unfinished` until it is renamed."""
FETCHED = ".fetched"
"""Behind the name of what is being made: shards that were fetched from the exchange for it."""
AT_A_TIME = 16
"""Files that the command reads from or puts into the exchange at the same time."""
DATA = pa.schema([("data", pa.large_binary())])
BATCH_BYTES = 16 * 2**20
"""What a worker holds of a piece."""
FIRST_WAIT_S = 1.0
UNSEEN_S = (0.1, 1.0, 5.0, 30.0, 30.0)
"""Waits for a file that a worker has written and that is not seen yet."""
LOOK_S, LOOK_URL_S = 1.0, 10.0
"""How often a worker looks whether the driver was interrupted; behind a URL each look is a request."""
_temporary = count()
_looked_s = dict[str, float]()
"""Token of the job that is worked for -> when it looked last."""

Run = Sequence[int]
"""Start of a piece, its first row, and number of rows."""
T = TypeVar("T")


class Configured(Protocol):
    """What knows its cluster."""

    @property
    def config(self) -> ClusterConfig: ...


class Job(Protocol):
    """What all tasks of a step are told. It is pickled, and small.

    Attributes:
        folder: the work folder, which all machines see.
        token: what the driver wrote there, to see that it is the same.
        versions: of the driver.
        config: the cluster.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def token(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def config(self) -> ClusterConfig: ...


J = TypeVar("J", bound=Job)


class Kept(Generic[J, T]):
    """What a worker's process keeps for the tasks of one job. It is made for the first of them, and given up for
    another job.

    Args:
        make: makes it.
        give_up: ends what it holds.
    """

    def __init__(self, make: Callable[[J], T], give_up: Callable[[T], None] = lambda _: None) -> None:
        self._make, self._give_up = make, give_up
        self._lock, self._made = threading.Lock(), dict[str, T]()

    def of(self, job: J) -> T:
        """That of a job. Raises what `make` does."""
        with self._lock:
            if job.token not in self._made:
                made = self._make(job)
                for old in self._made.values():
                    self._give_up(old)
                self._made = {job.token: made}
            return self._made[job.token]

    def there(self, job: J) -> T | None:
        """That of a job, if it was made."""
        return self._made.get(job.token)


class Stopped(Exception):
    """The driver was interrupted."""


@dataclass(frozen=True)
class Piece:
    """A piece that was read, without its items' records.

    Attributes:
        start: index of its first item.
        end: index behind its last one.
        is_last: whether the source ends there.
        seconds: that it took.
        rows: what is said of the items, as the step likes it.
    """

    start: int
    end: int
    is_last: bool
    seconds: float
    rows: Any


def work_root(config: ClusterConfig, folder: Path) -> Path:
    """The folder of all work that is done for a folder that is being made: beside it, or in the exchange."""
    if config.exchange is None:
        return folder.with_name(_plain_name(folder) + ".cluster")
    return place_of(config.exchange) / f"{_name_in_exchange(folder)}.cluster"


def mirror_of(config: ClusterConfig, corpus: Path, identity: str) -> Path:
    """Where the exchange has the shards of a corpus with this fingerprint, for the workers of the next step."""
    return place_of(config.exchange or "") / f"{_name_in_exchange(corpus)}.shards" / identity[:16]


def _plain_name(folder: Path) -> str:
    return folder.name.removesuffix(".partial")


def _name_in_exchange(folder: Path) -> str:
    """Another one for each folder of a machine."""
    whole = folder.with_name(_plain_name(folder).removeprefix(".")).resolve()
    return f"{whole.name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:12]}"


def only(root: Path, owner: str) -> Path:
    """The folder of an owner; those of others are removed."""
    for old in inside(root):
        if old.name == owner:
            continue
        if not is_url(old):
            shutil.rmtree(old, ignore_errors=True)  # a worker may be writing there still
            continue
        with suppress(OSError):
            remove_folder(old)
    return root / owner


def make_folders(folder: Path) -> None:
    """Make a work folder, or make one that is there fit for going on: what was not finished is removed, and so are
    pieces whose records went when their shards were written, if these shards are gone too."""
    if not is_url(folder):  # what is put behind a URL is whole
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for name in (PIECES, SHARDS, DIGESTS, UNFINISHED, RANGES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not any(path.suffix == ".arrow" for path in inside(folder / SHARDS)):
        pieces = inside(folder / PIECES)
        there = {path.name for path in pieces}
        for said in pieces:
            if said.suffix == ".json" and said.with_suffix(".arrow").name not in there:
                said.unlink()


def said_path(folder: Path, start: int) -> Path:
    """The file with what is said of a piece's items. It is written last."""
    return folder / PIECES / f"{start:012d}.json"


def data_path(folder: Path, start: int) -> Path:
    """The file with the records of a piece's items."""
    return folder / PIECES / f"{start:012d}.arrow"


def range_path(folder: Path, start: int) -> Path:
    """The file with the items that a piece is to read, of a source that has a list of them."""
    return folder / RANGES / f"{start:012d}.pickle"


def write_range(path: Path, items: ItemRange) -> None:
    """Write it, before a worker is told to read the piece. The file may lie in a bucket: it holds no credentials."""
    path.write_bytes(pickle.dumps(items, pickle.HIGHEST_PROTOCOL))


def read_range(path: Path) -> ItemRange:
    """What the driver wrote."""
    found: ItemRange = pickle.loads(path.read_bytes())
    return found


def read_said(path: Path) -> Piece | None:
    """A piece that was read; None where its file is not there or was cut off."""
    try:
        return Piece(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def until_seen(look: Callable[[], T | None]) -> T | None:
    """What another machine has just written. On a network's file system a name that was looked for before can stay
    unseen for a minute."""
    for wait_s in UNSEEN_S:
        if (found := look()) is not None:
            return found
        time.sleep(wait_s)
    return look()


def write_said(job: Job, piece: Piece) -> None:
    """Write the file that says that a piece is whole."""
    path = said_path(job.folder, piece.start)

    def write() -> None:
        with written_whole(path, new_name(path)) as temporary:
            temporary.write_text(json.dumps(vars(piece), separators=(",", ":")))

    with_retries(job, f"What is said of items {piece.start:,} to {piece.end - 1:,}", write, lambda: None)


@contextmanager
def data_file(path: Path) -> Iterator[Callable[[bytes | None], None]]:
    """A file of records, written one by one; it has its name when all are there."""
    held = list[bytes | None]()
    size = 0
    with (
        written_whole(path, new_name(path)) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, DATA) as file,
    ):

        def flush() -> None:
            nonlocal size
            file.write_batch(pa.record_batch([pa.array(held, pa.large_binary())], schema=DATA))
            held.clear()
            size = 0

        def append(record: bytes | None) -> None:
            nonlocal size
            held.append(record)
            size += len(record or b"")
            if size >= BATCH_BYTES:
                flush()

        yield append
        if held:
            flush()


def records(path: Path, first: int, rows: int) -> list[pa.Array]:
    """Records of a piece from a row on, in some arrays that lie in the file, which is a local one."""
    found, begin = [], 0
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        start, end = max(first, begin), min(first + rows, begin + len(batch))
        if start < end:
            found.append(batch.column(0).slice(start - begin, end - start))
        begin += len(batch)
    return found


def save_shard(
    job: Job, number: int, schema: pa.Schema, runs: Sequence[Run], columns: Callable[[Piece, slice], Mapping[str, Any]]
) -> None:
    """Write a shard and its digest.

    Args:
        job: of the step.
        number: of the shard.
        schema: of the shard.
        runs: its rows.
        columns: (piece, rows of it) -> values of all columns but `data`.
    """
    others: dict[str, list[Any]] = {name: [] for name in schema.names if name != "data"}
    for start, first, rows in runs:
        if (piece := until_seen(partial(read_said, said_path(job.folder, start)))) is None:
            raise _piece_gone(job.folder, start)
        for name, values in columns(piece, slice(first, first + rows)).items():
            others[name] += values
    final = shard_path(job.folder / SHARDS, number)
    digest = job.folder / DIGESTS / final.name

    def write() -> None:
        with ExitStack() as stack:
            local = {start: stack.enter_context(_local_data(job.folder, start)) for start, *_ in runs}
            temporary = stack.enter_context(written_whole(final, new_name(final)))
            write_shard(temporary, {**others, "data": _joined(local, runs)}, schema)
            with written_whole(digest, new_name(digest)) as said:
                said.write_text(_sha256(temporary))

    with_retries(job, f"The shard {number}", write, lambda: None)


@contextmanager
def _local_data(folder: Path, start: int) -> Iterator[Path]:
    """The records of a piece in a local file."""
    path = data_path(folder, start)
    if not until_seen(lambda: path.exists() or None):
        raise _piece_gone(folder, start)
    with local_copy(path) as local:
        yield local


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _joined(local: Mapping[int, Path], runs: Sequence[Run]) -> pa.Array:
    """The records of a shard from files of its pieces. One piece is mapped at a time, as pages that were read count as
    memory."""
    ends = np.zeros(sum(rows for *_, rows in runs) + 1, np.int64)
    values: pa.Buffer | None = None
    for _ in range(2):  # first where they end, then what they are
        row = 0
        for start, first, rows in runs:
            for array in records(local[start], first, rows):
                _, found, content = array.buffers()
                own = np.frombuffer(found, np.int64)[array.offset : array.offset + len(array) + 1]
                if values is None:
                    ends[row + 1 : row + len(array) + 1] = ends[row] + own[1:] - own[0]
                elif content is not None:
                    into = np.frombuffer(values, np.uint8)[ends[row] : ends[row + len(array)]]
                    into[:] = np.frombuffer(content, np.uint8)[own[0] : own[-1]]
                row += len(array)
        values = values or pa.allocate_buffer(int(ends[-1]))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends) - 1, [None, pa.py_buffer(ends), values])


def _piece_gone(folder: Path, start: int) -> DataError:
    path = data_path(folder, start)
    return DataError(f"The piece {path} is gone: remove {folder} and run the same command again")


def digest_of_shard(folder: Path, number: int) -> str | None:
    """SHA-256 of a shard that is there with its digest, else None."""
    path = shard_path(folder / SHARDS, number)
    try:
        digest = (folder / DIGESTS / path.name).read_text()
    except OSError:
        return None
    return digest if path.is_file() and len(digest) == 64 else None


def digests_of_shards(folder: Path, below: str) -> dict[str, str]:
    """Name of each shard below the folder that it will lie in -> SHA-256."""
    paths = inside(folder / DIGESTS)
    digests = _at_a_time(lambda path: path.read_text(), paths)
    return {f"{below}/{path.name}": digest for path, digest in zip(paths, digests, strict=True)}


def take_shards(step: Configured, folder: Path, into: Path) -> None:
    """Move the shards of a work folder to where they belong on this machine's disk. In an exchange they stay, and are
    copied: it may be behind a URL, or on another disk.

    A command that is killed meanwhile does not fetch them again: they wait beside what is being made.

    Raises:
        DataError: one arrived with another content, or could not be fetched after some tries.
    """
    if step.config.exchange is None:
        (folder / SHARDS).rename(into)
        return
    waiting = waiting_for(into)
    waiting.mkdir(parents=True, exist_ok=True)
    shards = inside(folder / SHARDS)
    names = {shard.name for shard in shards}
    for old in inside(waiting):
        if old.name not in names:
            old.unlink()
    digests = digests_of_shards(folder, "")

    def take(shard: Path) -> None:
        local, digest = waiting / shard.name, digests.get(f"/{shard.name}")
        if local.exists() and _sha256(local) == digest:
            return
        with_retries(step, f"The shard {shard}", lambda: bring(shard, local), lambda: None)
        if _sha256(local) != digest:
            raise DataError(f"{shard} arrived with another content: remove {folder} and run the same command again")
        sync(local)

    _at_a_time(take, shards)
    waiting.rename(into)
    if not inside(waiting.parent):
        waiting.parent.rmdir()


def waiting_for(into: Path) -> Path:
    """Where shards that were fetched wait until all are there."""
    return into.parent.with_name(_plain_name(into.parent) + FETCHED) / into.name


def put_shards(step: Configured, shards: Path, mirror: Path) -> None:
    """Put the shards of a corpus that are missing into the mirror in the exchange.

    Raises:
        DataError: the storage failed some times.
    """
    mirror.mkdir(parents=True, exist_ok=True)
    there = {place.name: place.stat().st_size for place in inside(mirror)}
    missing = [shard for shard in inside(shards) if there.get(shard.name) != shard.stat().st_size]

    def give(shard: Path) -> None:
        with_retries(step, f"The shard {shard}", lambda: put(shard, mirror / shard.name), lambda: None)

    _at_a_time(give, missing)


def _at_a_time(call: Callable[[Path], T], places: Sequence[Path]) -> list[T]:
    """What a call finds for each of some files, several at a time, as each of them waits for the storage. The first
    error ends it."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(call, places))


def check_running(job: Job) -> None:
    """Raises Stopped if the driver was interrupted. It looks once a second, so any item may ask."""
    now_s = time.monotonic()
    every_s = LOOK_URL_S if is_url(job.folder) else LOOK_S
    if now_s - _looked_s.get(job.token, -every_s) < every_s:
        return
    _looked_s.clear()
    _looked_s[job.token] = now_s
    if machine.is_stopped(job.folder):
        raise Stopped("the command that this is done for was interrupted")


def with_retries(step: Configured, what: str, call: Callable[[], T], after_failure: Callable[[], None]) -> T:
    """The result of a call, which is made again with longer and longer waits where the storage fails.

    Raises:
        DataError: it failed each time.
    """
    for attempt in count(1):
        try:
            return call()
        except Stopped:
            raise
        except Exception as error:
            after_failure()
            if not is_of_storage(error) or step.config.retries == 0:
                raise
            if attempt > step.config.retries:
                raise DataError(f"{what}: tried {attempt} times: {error}") from error
            wait_s = FIRST_WAIT_S * 2 ** (attempt - 1)
            log(f"{what}: the storage failed ({error}); once more in {wait_s:g} s")
            time.sleep(wait_s)
    raise AssertionError("a loop without end ended")


def new_name(path: Path) -> Path:
    """A name for a file until it is whole, which no other task uses, on whatever machine."""
    name = f"{path.name}.{os.uname().nodename}.{os.getpid()}.{next(_temporary)}"
    return path.parent.with_name(UNFINISHED) / name
