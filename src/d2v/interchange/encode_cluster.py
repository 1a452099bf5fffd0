"""Features of many files by the workers of a cluster: a folder of Parquet files, each with a piece of the items."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from d2v.config import ClusterConfig
from d2v.data import fingerprint
from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster
from d2v.data.cluster.files import Kept, check_running, until_seen, with_retries, write_range
from d2v.data.cluster.pieces import listed_items
from d2v.data.disk import one_at_a_time
from d2v.data.parallel import ordered_map
from d2v.data.sources.source import Item, ItemRange
from d2v.data.url_paths import absolute, is_url, place_of, put_json, remove_folder
from d2v.errors import ConfigError, DataError, is_of_storage
from d2v.interchange.encode_files import (
    Asked,
    FileItem,
    Opened,
    Written,
    asked_of,
    no_row,
    open_all,
    read_item,
    remarks,
    write_features,
)
from d2v.interchange.index_rows import INDEX_LONG, row_of, space_of
from d2v.interchange.load import Model, Pool, Space, load
from d2v.modalities import registry
from d2v.modalities.base import OwnFiles
from d2v.modalities.long_items import Cuts, Long
from d2v.progress import Progress, log

WORK, DONE = ".work", "encode.json"
"""In the folder of features: the work folder, and what it says once it is whole."""


@dataclass(frozen=True)
class How:
    """How items are encoded, see `encode_files` and `load`.

    Attributes:
        for_index: write what `d2v index` takes: vectors of the space that it compares items in, of whole texts, with
            what it keeps of an item.
    """

    model: str
    device: str = "auto"
    dtype: str = "float32"
    runtime: str = "torch"
    batch_size: int = 32
    layers: Sequence[int] | None = None
    pool: Pool = "mean"
    predict: bool = False
    long: Long = "cut"
    space: Space = "plain"
    for_index: bool = False

    def asked(self, device: str) -> Asked:
        """The model, loaded, and what is asked of each item."""
        model = load(self.model, device=device, dtype=self.dtype, runtime=self.runtime)
        model.batch_size = self.batch_size
        space, long = (space_of(model), INDEX_LONG) if self.for_index else (self.space, self.long)
        asked = asked_of(model, self.layers, self.pool, self.predict, long, space)
        return replace(asked, weights=model.fingerprint(), for_index=self.for_index)


@dataclass(frozen=True)
class EncodeJob:
    """See `d2v.data.cluster.files.Job`.

    Attributes:
        how: see `How`.
        weights: fingerprint of the model, as the driver sees it.
        files: what was given.
        ingest: keys of the ingest block.
        listed: of each of the files, whether the driver lists the items of its pieces.
    """

    folder: Path
    token: str
    versions: Mapping[str, str]
    config: ClusterConfig
    how: How
    weights: str
    files: tuple[Path, ...]
    ingest: Mapping[str, object]
    listed: tuple[bool, ...]


@one_at_a_time
def encode_on_cluster(
    how: How, files: Sequence[Path], out: Path, ingest: Mapping[str, object], config: ClusterConfig
) -> Written:
    """Write the features of files into the folder `out`, as Parquet files whose names are in the order of the items.

    The rows are those of `encode_files`; features can differ in their last digits, as batches are made within a piece.
    A command that was interrupted goes on with the pieces that are missing.

    Raises:
        ConfigError: `out` holds something else.
        DataError: no files, or a file that is not there.
        LaunchError: there is no scheduler.
    """
    out = place_of(out)
    places = map(place_of, files)
    given = tuple(path if is_url(path) else path.resolve() if how.for_index else path.absolute() for path in places)
    model = how.asked("cpu").model
    opened = open_all(model, given, ingest)
    seen = [str(one) if isinstance(one, DataError) else one.source.fingerprint for _, one in opened]
    asked = asdict(how) | {"model": _weights_of(model), "device": None, "batch_size": None}
    if not how.for_index:
        del asked["for_index"]  # a later key: folders of before stay what they are
    identity = fingerprint.of_values(
        {"asked": asked, "files": list(map(str, given)), "seen": seen, "ingest": ingest, "size": config.piece_items}
    )
    if done := _whole(out, identity):
        log(f"encode: {out} is whole since it was written")
        return done
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    put_json(work / DONE, {"identity": identity})
    token, listed = machine.mark(work), tuple(_lists(one) is not None for _, one in opened)
    job = EncodeJob(absolute(work), token, machine.versions(), config, how, _weights_of(model), given, ingest, listed)
    written = _Encoding(job, opened).run()
    cuts = Cuts(written.rows, written.cut, written.tokens_cut_off)
    for line in [cuts.said("--long windows reads all of them, --long error refuses them"), *remarks(opened)]:
        if line:
            log(f"encode: {line}")
    put_json(out / DONE, {"identity": identity, "files": list(map(str, given)), **asdict(written)})
    remove_folder(work)
    return written


def _whole(out: Path, identity: str) -> Written | None:
    """What was written, if it is what is asked for and whole; None where there is still something to do."""
    for about in (out / DONE, out / WORK / DONE):
        try:
            content = json.loads(about.read_text())
        except (OSError, ValueError):
            continue
        if content.pop("identity", None) != identity:
            raise ConfigError(
                f"{out} holds features of other files, another model or other settings: give --out another folder, or "
                "remove this one"
            )
        content.pop("files", None)
        return Written(**content) if about.parent == out else None
    if out.exists() and any(path.name != WORK for path in out.iterdir()):
        raise ConfigError(f"{out} is there and holds no features: give --out a new folder")
    return None


def _lists(opened: OwnFiles | DataError) -> Callable[[int, int], ItemRange] | None:
    """What lists the items of a piece, of a source that has a list."""
    return None if isinstance(opened, DataError) else opened.source.ranges


class _Encoding:
    """The driver's loop."""

    def __init__(self, job: EncodeJob, opened: Opened) -> None:
        self.job, self.opened, self.size = job, opened, job.config.piece_items
        self.totals = [1 if isinstance(one, DataError) else one.source.total for _, one in opened]
        self.ended: set[int] = set()  # files of which a piece was the last
        self.said: dict[tuple[int, int], dict[str, Any]] = {}

    def run(self) -> Written:
        """Until every piece is there."""
        total = None if None in self.totals else sum(total or 0 for total in self.totals)
        missing = self._missing()
        with (
            Progress("encode", total) as progress,
            Cluster(self.job.config, "encode", one_a_gpu=self.job.how.device == "auto") as cluster,
        ):
            try:
                while True:
                    while cluster.has_room() and (piece := next(missing, None)) is not None:
                        self._hand_out(*piece)
                        cluster.submit(piece, encode_piece, self.job, *piece, self.size)
                    if not cluster.waiting:
                        break
                    piece, lost = cluster.next_done()
                    if lost:
                        raise DataError(
                            f"No worker outlives the items from {piece[1]:,} of {self.job.files[piece[0]]} ({lost}): "
                            "see whether they have enough memory, and lower the sizes of batches and pieces"
                        )
                    said = until_seen(partial(self._said, piece))
                    if said is None:
                        raise DataError(f"{_said_path(self.job, *piece)} is gone: give the same command again")
                    self._count(piece, said)
                    progress.advance(said["rows"], f"{sum(one['problems'] for one in self.said.values()):,} problems")
            except BaseException:
                (self.job.folder / machine.STOP).touch()
                raise
        return self._written()

    def _missing(self) -> Iterator[tuple[int, int]]:
        """Pieces that are not there: number of the file, first item."""
        for number, total in enumerate(self.totals):
            for start in count(0, self.size) if total is None else range(0, max(total, 1), self.size):
                if number in self.ended:
                    break
                if said := self._said((number, start)):
                    self._count((number, start), said)
                else:
                    yield number, start

    def _hand_out(self, number: int, start: int) -> None:
        """List the items of a piece, so that a worker needs no list of all."""
        if lists := _lists(self.opened[number][1]):
            write_range(_range_path(self.job, number, start), lists(start, start + self.size))

    def _said(self, piece: tuple[int, int]) -> dict[str, Any] | None:
        """What a worker says of a piece; None where it is not there or was cut off."""
        try:
            said: dict[str, Any] = json.loads(_said_path(self.job, *piece).read_text())
        except (OSError, ValueError):
            return None
        return said

    def _count(self, piece: tuple[int, int], said: dict[str, Any]) -> None:
        self.said[piece] = said
        if said["is_last"] and self.totals[piece[0]] is None:
            self.ended.add(piece[0])

    def _written(self) -> Written:
        first = next((self.said[piece]["first"] for piece in sorted(self.said) if self.said[piece]["first"]), "")
        sums = {name: sum(said[name] for said in self.said.values()) for name in ("rows", "problems", "cut")}
        return Written(**sums, first=first, tokens_cut_off=sum(one["tokens_cut_off"] for one in self.said.values()))


# --------------------------------------------------------------------------------------------- worker


def _weights_of(model: Model) -> str:
    """The model's fingerprint, with its head where it has one."""
    if model.head is None or model.task is None:
        return model.fingerprint()
    head = {name: fingerprint.of_values(value.tolist()) for name, value in model.head.state_dict().items()}
    return fingerprint.of_values({"encoder": model.fingerprint(), "head": head, "task": model.task.describe()})


class _Loaded:
    """What a worker keeps for the tasks of one job: the model, the opened files, and where it is reading."""

    def __init__(self, job: EncodeJob) -> None:
        machine.check(job.versions, job.folder, job.token)
        self.asked = job.how.asked(_device(job.how.device))
        if _weights_of(self.asked.model) != job.weights:
            raise DataError(
                f"The worker loads another model from {job.how.model} than the command that it works for: give a path "
                "that is the same on all machines"
            )
        self.job, self.modality = job, registry.get(self.asked.model.modality)
        self.lock = threading.Lock()
        self.place: tuple[int, int] | None = None
        self.items: Iterator[Any] = iter(())

    @cached_property
    def opened(self) -> list[OwnFiles | DataError | None]:
        """What is in the files, but for those whose items the driver lists."""
        rest = [file for file, is_listed in zip(self.job.files, self.job.listed, strict=True) if not is_listed]
        found = iter(open_all(self.asked.model, rest, self.job.ingest) if rest else [])
        return [None if is_listed else next(found)[1] for is_listed in self.job.listed]

    @cached_property
    def readers(self) -> list[Callable[[Item], object]]:
        """What reads an item of each of the files."""
        return [self.modality.item_reader(file, self.job.ingest) for file in self.job.files]

    def items_from(self, number: int, start: int) -> Iterator[Item]:
        """Items of a file, read on from where the last piece ended if that leads there.

        Raises:
            DataError: the file holds no items that can be read.
        """
        opened = self.opened[number]
        if opened is None or isinstance(opened, DataError):
            raise opened or TypeError("the driver lists these")
        source = opened.source
        goes_on = self.place is not None and self.place[0] == number and self.place[1] <= start
        if not goes_on or (source.total is not None and self.place != (number, start)):
            self.items, self.place = source.items(start), (number, start)
        _, position = self.place or (number, start)
        for item in self.items:
            first, position = position, position + item.rows
            self.place = (number, position)
            if first >= start:
                yield item


_loaded = Kept(_Loaded)


def _device(device: str) -> str:
    """A GPU for each worker of this machine, in turns."""
    import torch

    if device != "auto" or torch.cuda.device_count() < 2:
        return device
    from distributed import get_worker

    name = str(get_worker().name)
    return f"cuda:{int(name) % torch.cuda.device_count()}" if name.isdecimal() else device


def encode_piece(job: EncodeJob, number: int, start: int, size: int) -> None:
    """Write the features of some items of a file; then counts of these, and whether these were the last items.

    Args:
        job: of the command.
        number: of the file among those that were given.
        start: first item.
        size: how many.
    """
    loaded, began_s = _loaded.of(job), time.monotonic()

    def encode() -> tuple[Written, int]:
        cuts, read = Cuts(), _Counted()
        options = cast(Mapping[str, Any], job.ingest.get("options", {}))
        listed = listed_items(_range_path(job, number, start), options) if job.listed[number] else None
        items = ordered_map(lambda one: one(), _unread(loaded, job, number, start, size, read, listed))
        return write_features(loaded.asked, items, _part_path(job, number, start), cuts, lambda _: None), read.items

    def forget() -> None:
        loaded.place = None

    with loaded.lock:  # a model computes one batch at a time, whatever the threads of the worker
        written, items = with_retries(job, f"Items {start:,} to {start + size - 1:,}", encode, forget)
    if not written.rows and start:
        _part_path(job, number, start).unlink()
    said = asdict(written) | {"is_last": items < size, "seconds": round(time.monotonic() - began_s, 3)}
    put_json(_said_path(job, number, start), said)


@dataclass
class _Counted:
    items: int = 0


def _unread(
    loaded: _Loaded, job: EncodeJob, number: int, start: int, size: int, read: _Counted, listed: Iterator[Item] | None
) -> Iterator[partial[FileItem]]:
    """What reads each item; what ends a source early is an item with a problem, unless the storage failed."""
    path = job.files[number]
    try:
        for item in loaded.items_from(number, start) if listed is None else listed:
            check_running(job)
            read.items += item.rows
            address = item.address or f"{path}/{item.key}"
            keep = partial(row_of, loaded.modality, address=address, root=str(path)) if job.how.for_index else no_row
            yield partial(read_item, loaded.readers[number], item, address, keep)
            if read.items >= size:
                return
    except DataError as error:
        if is_of_storage(error):
            raise
        loaded.place = None
        yield partial(FileItem, str(path), None, problem=str(error))
        return
    if not start and not read.items:
        yield partial(FileItem, str(path), None, problem="it holds no items")


def _part_path(job: EncodeJob, number: int, start: int) -> Path:
    return job.folder.parent / f"part-{number:05d}-{start:012d}.parquet"


def _range_path(job: EncodeJob, number: int, start: int) -> Path:
    return job.folder / f"{number:05d}-{start:012d}.pickle"


def _said_path(job: EncodeJob, number: int, start: int) -> Path:
    return job.folder / f"{number:05d}-{start:012d}.json"
