"""Features of many files as one Parquet file, a batch at a time: it takes the memory of one batch."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.disk import full_disk_named
from d2v.data.parallel import ordered_map
from d2v.data.sources.source import Item
from d2v.data.url_paths import is_url, place_of, written_whole
from d2v.errors import ConfigError, DataError
from d2v.interchange.index_rows import FIELDS
from d2v.interchange.load import Model, Pool, Space, check_finite
from d2v.modalities import registry
from d2v.modalities.base import OwnFiles
from d2v.modalities.long_items import Cuts, Long, check_long
from d2v.progress import Progress, log

ABOUT = "d2v"
"""Key of what a Parquet file's schema says of the features in it."""


@dataclass(frozen=True)
class Written:
    """The result of `encode_files`.

    Attributes:
        rows: items, those with a problem too.
        problems: items that could not be read.
        first: the first of these, with the reason.
        cut: items that lost their end, for the encoder takes no longer ones.
        tokens_cut_off: of all of these.
    """

    rows: int
    problems: int
    first: str = ""
    cut: int = 0
    tokens_cut_off: int = 0


@dataclass(frozen=True)
class Asked:
    """What is asked of each item.

    Attributes:
        model, layers, pool, predict, long, space: see `encode_files`.
        weights: the model's fingerprint, to be written beside its features; "" leaves it out.
        for_index: also what an index keeps of an item.
    """

    model: Model
    layers: Sequence[int] | None
    pool: Pool
    predict: bool
    long: Long
    space: Space = "plain"
    weights: str = ""
    for_index: bool = False

    def tokens_of(self, item: FileItem) -> int:
        """For batches of like lengths."""
        return 0 if item.problem else self.model.tokens_of(item.raw)


@dataclass(frozen=True)
class FileItem:
    """An item of a file: what the encoder takes, or why there is nothing, and what an index keeps of it."""

    file: str
    line: int | None
    raw: Any = None
    problem: str | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)


def encode_files(
    model: Model,
    files: Iterable[Path],
    out: Path,
    layers: Sequence[int] | None = None,
    pool: Pool = "mean",
    predict: bool = False,
    long: Long = "cut",
    ingest: Mapping[str, object] | None = None,
    space: Space = "plain",
) -> Written:
    """Write the features of files, read as ingest reads them.

    A folder, an archive, a table or a file of arrays gives all items that ingest would find there, in its order; any
    other file is one item, or of text an item a line. Columns: `file`, with the place in an archive or a table behind;
    `line` of texts, from 1, where a file holds several; `embedding` (D float32 numbers), or `layer_<i>` for each of
    `layers`; `prediction` if it is asked for, as text; `problem`, why an item has no features, else null.

    Args:
        model: whose features; `model.batch_size` items at a time.
        files: of the modality, or folders.
        out: written at the end in one step, so that it is whole or not there.
        layers: blocks, see `Model.encode`.
        pool: `mean` or `first`.
        predict: also what a fine-tuned model says.
        long: see `Model.encode`; with `error`, an item that is too long is one with a problem.
        ingest: keys of the modality's ingest block and their values, such as `{"columns": {"text": "body"}}`; texts
            are `document: line` unless it says otherwise.
        space: see `Model.encode`.

    Raises:
        DataError: no files, or a file that is not there.
        ConfigError: predictions of a model without a head, a model without a space to search in, or keys that the
            ingest block does not have.
    """
    asked = asked_of(model, layers, pool, predict, long, space)
    found = open_all(model, files, ingest or {})
    cuts = Cuts()
    with Progress("encode", _total(found)) as progress:
        written = write_features(asked, _items(found), out, cuts, progress.advance)
    for line in [cuts.said("--long windows reads all of them, --long error refuses them"), *remarks(found)]:
        if line:
            log(f"encode: {line}")
    return written


def asked_of(model: Model, layers: Sequence[int] | None, pool: Pool, predict: bool, long: Long, space: Space) -> Asked:
    """What is asked of each item, checked; see `encode_files`."""
    if predict and model.task is None:
        raise ConfigError("the model is an encoder without a head: leave --predict out, or give a fine-tuned model")
    model.width_in(space, layers, pool)
    return Asked(model, layers, pool, predict, check_long(long), space)


def write_features(
    asked: Asked, items: Iterable[FileItem], out: Path, cuts: Cuts, advance: Callable[[int], None]
) -> Written:
    """Write the features of items to a Parquet file, which is whole or not there.

    Args:
        asked: what is asked of each item.
        items: in order.
        out: the file.
        cuts: counts what is cut off.
        advance: is told how many items are done.
    """
    schema = _schema(asked)
    temporary = out.with_name(f".{out.name}.{platform.node()}.{os.getpid()}.tmp")
    rows, problems, first = 0, 0, ""
    if not is_url(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with (
        full_disk_named(Path(tempfile.gettempdir()) if is_url(out) else out.parent, DataError, "Nothing was written."),
        written_whole(out, temporary) as local,
        pq.ParquetWriter(local, schema) as writer,
    ):
        for window in asked.model.batch_limit().windows(items, asked.tokens_of):
            table = _table(asked, window, schema, cuts)
            writer.write_table(table)
            rows += len(table)
            bad = [row for row in table.select(["file", "problem"]).to_pylist() if row["problem"]]
            problems += len(bad)
            first = first or "".join(f"{row['file']}: {row['problem']}" for row in bad[:1])
            advance(len(window))
    return Written(rows, problems, first, cuts.cut, cuts.tokens)


def some_items(model: Model, files: Iterable[Path], most: int) -> Iterator[Any]:
    """Items of files that can be read, as `Model.to_inputs` takes them, in order: of more than `most` some at equal
    distances, or the first where nobody knows how many there are.

    Raises:
        DataError: no files, or a file that is not there.
    """
    found = open_all(model, files, {})
    total, reads = _total(found), (read for path, opened in found for read in _unread(path, opened))
    if total is not None and total > most:
        chosen = {number * total // most for number in range(most)}
        reads = (read for number, read in enumerate(reads) if number in chosen)
    items = ordered_map(lambda read: read(), reads)
    return islice((item.raw for item in items if not item.problem), most)


def check_pool(pool: str) -> Pool:
    """A pooling that gives one vector an item. Raises ConfigError for others."""
    if pool not in ("mean", "first"):
        raise ConfigError(f"a row holds one vector, which --pool {pool} does not give: take mean or first")
    return cast(Pool, pool)


Opened = list[tuple[Path, OwnFiles | DataError]]
"""What was given, and what is in it or why that cannot be told."""


def open_all(model: Model, files: Iterable[Path], ingest: Mapping[str, object]) -> Opened:
    """What is in files and folders. Raises DataError if one is not there."""
    modality, found = registry.get(model.modality), Opened()
    for path in map(place_of, files):
        if not is_url(path) and not path.is_dir() and not path.is_file():
            raise DataError(f"{path} is not there: give files, or folders of them. It was looked for in {Path.cwd()}")
        try:
            found.append((path, modality.open_files(path, ingest)))
        except DataError as error:
            found.append((path, error))
    if not found:
        raise DataError("There are no files to encode: give some, or a folder of them")
    return found


def _total(found: Opened) -> int | None:
    """Number of items, if all sources know theirs."""
    totals = [1 if isinstance(one, DataError) else one.source.total for _, one in found]
    return None if None in totals else sum(total or 0 for total in totals)


def _items(found: Opened) -> Iterator[FileItem]:
    """All items, which threads read ahead."""
    return ordered_map(lambda read: read(), (read for path, opened in found for read in _unread(path, opened)))


def _unread(path: Path, opened: OwnFiles | DataError) -> Iterator[Callable[[], FileItem]]:
    """What reads each item; what ends a source early is an item with a problem."""
    is_empty = True
    try:
        if isinstance(opened, DataError):
            raise opened
        for item in opened.source.items(0):
            is_empty = False
            yield partial(read_item, opened.read, item, item.address or f"{path}/{item.key}")
    except DataError as error:
        problem = str(error)
        yield lambda: FileItem(str(path), None, problem=problem)
        return
    if is_empty:
        yield lambda: FileItem(str(path), None, problem="it holds no items")


def no_row(_: Item) -> Mapping[str, Any]:
    """Nothing is kept for an index."""
    return {}


def read_item(
    read: Callable[[Item], object], item: Item, file: str, keep: Callable[[Item], Mapping[str, Any]] = no_row
) -> FileItem:
    """An item as the encoder takes it, or why there is nothing.

    Args:
        read: what reads items of its file.
        item: as the source gives it.
        file: where it lies.
        keep: what an index keeps of it.
    """
    file = file.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # a name that is no valid text
    if item.data is None or item.refused:
        return FileItem(file, item.line, problem=item.refused or "it has no content")
    try:
        return FileItem(file, item.line, read(item), kept=keep(item))
    except DataError as error:
        return FileItem(file, item.line, problem=str(error))


def remarks(found: Opened) -> list[str]:
    """Files that sources leave out."""
    return [remark for _, one in found if not isinstance(one, DataError) for remark in one.source.left_out]


def _schema(asked: Asked) -> pa.Schema:
    model = asked.model
    vector = pa.list_(pa.float32())  # lists of a fixed size cannot be read again where one is null
    fields = [pa.field("file", pa.string())]
    fields += [pa.field("line", pa.int64())] if registry.get(model.modality).items_are_lines else []
    fields += [pa.field(name, vector) for name in _columns(asked.layers)]
    fields += [pa.field("prediction", pa.string())] if asked.predict else []
    fields.append(pa.field("problem", pa.string()))
    if asked.for_index:
        there = {one.name for one in fields}
        fields += [one for one in FIELDS if one.name not in there]
    about = {
        "modality": model.modality,
        "width": model.width_in(asked.space, asked.layers, asked.pool),
        "pool": asked.pool,
        "source": model.about.get("source"),
    }
    about |= {"fingerprint": asked.weights, "layers": asked.layers} if asked.weights else {}
    return pa.schema(fields, metadata={ABOUT: json.dumps(about | {"long": asked.long, "space": asked.space})})


def _columns(layers: Sequence[int] | None) -> list[str]:
    return ["embedding"] if layers is None else [f"layer_{layer}" for layer in layers]


def _table(asked: Asked, items: Sequence[FileItem], schema: pa.Schema, cuts: Cuts) -> pa.Table:
    """Items that are sorted among themselves, in their order."""
    rows: list[dict[str, Any]] = [{"problem": item.problem} for item in items]
    readable = [number for number, item in enumerate(items) if not item.problem]
    for batch in asked.model.batch_limit().by_length([asked.tokens_of(items[number]) for number in readable]):
        numbers = [readable[one] for one in batch]
        for number, row in zip(numbers, _rows(asked, [items[number].raw for number in numbers], cuts), strict=True):
            rows[number] = row
    said = ({**item.kept, "file": item.file, "line": item.line} for item in items)
    named = [row | one for row, one in zip(rows, said, strict=True)]
    return pa.Table.from_pylist(named, schema=schema)


def _rows(asked: Asked, raw: list[Any], cuts: Cuts) -> list[dict[str, Any]]:
    """Features of some items; if one cannot be used, each of them on its own."""
    if not raw:
        return []
    model, columns = asked.model, _columns(asked.layers)
    try:
        inputs = model.to_inputs(raw, long=asked.long)
        found = model.features(inputs, asked.layers, asked.pool, asked.space)
        for features in found:
            check_finite(features, "the item")
        said = model.predictions(inputs) if asked.predict else []
    except DataError as error:
        if len(raw) > 1:
            return [row for one in raw for row in _rows(asked, [one], cuts)]
        return [{"problem": str(error)}]
    cuts.add(inputs)
    vectors = (one[None] if asked.layers is None else one for one in found)
    rows: list[dict[str, Any]] = [dict(zip(columns, one, strict=True)) for one in vectors]
    for row, one in zip(rows, said, strict=False):
        row["prediction"] = one if isinstance(one, str) else json.dumps(_rounded(one))
    return rows


def _rounded(said: Any) -> Any:
    """Numbers with as many digits as float32 has."""
    if isinstance(said, dict):
        return {name: _rounded(value) for name, value in said.items()}
    return float(np.format_float_positional(np.float32(said)))
