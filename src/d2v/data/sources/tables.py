"""Items in Parquet tables, read batch by batch.

A row group that cannot be read comes back as items with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import partial
from itertools import accumulate
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.columns import Columns, first_column
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.listing import Found, open_file
from d2v.data.sources.locations import Location
from d2v.data.sources.row_sources import Split, in_order, refused_rows, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kind_of, kinds_of_files
from d2v.data.workers import WorkerDied, streamed
from d2v.errors import DataError

PARQUET_ROWS, BATCH_BYTES = 64, 16 * 2**20  # per batch read from a table: items, and bytes as the table says
VALUE_ROWS = 256  # per batch of a column of labels or splits
TABLE_BYTES = 768 * 2**20
"""Memory of the process that reads a table."""
BUFFER_BYTES = 2**20  # read at a time of each column, not all of a row group's

T = TypeVar("T")


def parquet_source(location: Location, wanted: Wanted, columns: Columns | None = None) -> Source:
    """Tables with a column of encoded items, as bytes or as {bytes, path}, or of strings; the split is in the file or
    folder names.

    Args:
        location: the tables.
        wanted: the modality's words, with the names of content columns.
        columns: names of the others; None is the usual labels and no texts.

    Raises:
        DataError: not Parquet, or no column of items.
    """
    tables = [_Table(location, file, wanted, columns or Columns()) for file in location.files]
    kinds = kinds_of_files([table.file.key for table in tables])
    splits = [
        Split(kind, table.rows, table.items, frozenset(table.kinds.values()))
        for kind, table in zip(kinds, tables, strict=True)
    ]
    named = next((table.class_names for table in tables if table.class_names), None)
    classes = named or in_order(sorted(set().union(*(table.labels() for table in tables))))
    return source_of_splits(f"Parquet {location.given}", location.fingerprint, splits, classes)


class _Table:
    """One Parquet file: `rows`, and `class_names` if its metadata tells them (as Hugging Face's do)."""

    def __init__(self, location: Location, file: Found, wanted: Wanted, columns: Columns) -> None:
        import pyarrow as pa  # imported late: half a second that other sources do not need

        alone = replace(location, files=(file,))  # a worker is sent this table, not a list of all
        self.location, self.file, self.wanted, self.strings = alone, file, wanted, columns.strings
        self.errors, self.is_nested = (pa.ArrowException, OSError, ValueError), pa.types.is_nested
        try:
            ((names, metadata, self.group_rows),) = self._bounded(self._read_footer, _no_size)
        except (*self.errors, MemoryError, WorkerDied) as error:
            raise DataError(
                f"{file.path} cannot be read as Parquet ({error}): copy it again, or set {wanted.modality}.ingest."
                "format to what it is."
            ) from error
        self.rows = sum(self.group_rows)
        columns.check(names, file.path)
        self.content = self._content(names)
        self.label = first_column(columns.labels, names)
        texts = ((name, first_column(choices, names)) for name, choices in columns.texts.items())
        self.texts = {name: column for name, column in texts if column}
        self.group = first_column(columns.groups, names)
        self.names = _hugging_face_names(metadata)
        self.kinds = self._split_kinds(columns, names)
        self.class_names = self.names.get(self.label or "")

    def _read_footer(self) -> Iterator[tuple[list[str], dict[bytes, bytes], list[int]]]:
        """(names of the columns, metadata, rows of each row group). Arrow ends the process on some damaged footers."""
        with self._open() as table:
            schema, about = table.schema_arrow, table.metadata
            rows = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
            if min(rows, default=0) < 0:
                raise ValueError("a row group has a negative number of rows")
            yield list(schema.names), dict(schema.metadata or {}), rows

    def _content(self, names: Sequence[str]) -> str:
        found = first_column(self.wanted.columns, names)
        if found is None:
            kinds = "strings" if self.strings else "encoded files as bytes, or {bytes, path}"
            raise DataError(
                f"{self.file.path} has the columns {', '.join(names)}, none of them with {self.wanted.noun}: name it "
                f"{self.wanted.columns[0]} ({kinds})."
            )
        return found

    def _split_kinds(self, columns: Columns, names: Sequence[str]) -> dict[Any, str]:
        """Value of the split column -> kind of split; empty if there is no such column, or it says something else."""
        self.split = first_column(columns.splits, names)
        if self.split is None or self.split in (self.content, self.label):
            self.split = None
            return {}
        values = self._values(self.split)
        kinds = {value: kind for value in values if value is not None and (kind := kind_of(str(value)))}
        unknown = sorted(str(value) for value in values if value is not None and value not in kinds)
        if unknown and "split" in columns.chosen:
            raise DataError(
                f"The column {self.split} of {self.file.path} has {unknown[0]!r}, which names no split: write train, "
                f"val or test, or set {self.wanted.modality}.ingest.columns.split to another column."
            )
        if unknown:
            self.split = None
        return {} if unknown else kinds

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with (
            open_file(self.location.fs, self.file.path) as file,
            pq.ParquetFile(file, buffer_size=BUFFER_BYTES) as table,
        ):
            yield table

    def labels(self) -> set[str]:
        """All labels of the table, from its label column alone."""
        if self.label is None or self.class_names:
            return set()
        return {label for value in self._values(self.label) if (label := _label_or_none(value)) is not None}

    def _bounded(self, make: Callable[[], Iterator[T]], size_of: Callable[[T], int]) -> Iterator[T]:
        """What is read from the table, by a process that may die and has a bound on its memory. File systems of the
        network do not outlive a fork, so theirs are read in this process."""
        return streamed(make, size_of, TABLE_BYTES) if isinstance(self.location.fs, LocalFileSystem) else make()

    def _values(self, column: str) -> set[Any]:
        """Different values of a column; what is damaged, items() tells."""
        found: set[Any] = set()
        with suppress(*self.errors, MemoryError, WorkerDied):
            found.update(self._bounded(partial(self._read_values, column), _written_size))
        return found

    def _read_values(self, column: str) -> Iterator[Any]:
        found: set[Any] = set()
        with self._open() as table:
            for batch in table.iter_batches(batch_size=VALUE_ROWS, columns=[column]):
                values = batch.column(0)
                is_nested = self.is_nested(values.type)
                new = {*map(_hashable, values.to_pylist() if is_nested else values.unique().to_pylist())} - found
                found |= new
                yield from new

    def items(self, start: int) -> Iterator[Item]:
        """Rows from `start` on; row groups before it are not read. Where reading ends its process, the rest of the row
        group is tried once more a row at a time, and then given up."""
        row, at_a_time = start, PARQUET_ROWS
        while row < self.rows:
            try:
                for values in self._bounded(partial(self._values_of_items, row, at_a_time), _size):
                    item = Item(*values)
                    row += item.rows
                    at_a_time = PARQUET_ROWS
                    yield item
                return
            except WorkerDied as died:
                if at_a_time > 1:
                    at_a_time = 1
                    continue
                at_a_time = PARQUET_ROWS
                group, end = self._group_of(row)
                yield from self._lost(row, end, f"row group {group} of {self.file.name} cannot be read: {died}")
                row = end

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and the row behind its last."""
        ends = list(accumulate(self.group_rows))
        group = bisect_right(ends, row)
        return group, ends[group]

    def _lost(self, first: int, end: int, reason: str) -> Iterator[Item]:
        """Rows that cannot be read."""

        def lost(row: int) -> Item:
            return Item(self._key(row), None, refused=reason, address=self._address(row))

        return refused_rows(lost, first, end)

    def _values_of_items(self, start: int, at_a_time: int) -> Iterator[tuple[Any, ...]]:
        """Items as their fields, which go from process to process four times as fast."""
        return map(_FIELDS_OF, self._items(start, at_a_time))

    def _items(self, start: int, at_a_time: int) -> Iterator[Item]:
        with self._open() as table:
            first = 0
            for group, rows in enumerate(self.group_rows):
                if first + rows > start:
                    yield from self._group_items(table, group, first, max(start - first, 0), rows, at_a_time)
                first += rows

    def _group_items(self, table: Any, group: int, first: int, skip: int, rows: int, at_a_time: int) -> Iterator[Item]:
        """Rows `skip` to `rows` of a row group whose first row is `first` in the table. What needs too much memory in
        batches is tried a row at a time."""
        names = (self.content, self.label, self.split, self.group, *self.texts.values())
        columns = list(dict.fromkeys(name for name in names if name))
        row, reason = skip, "its row group has fewer rows than it promises"
        while True:
            try:
                declared = max(_declared_bytes(table, group, columns), 1)
                at_a_time = min(at_a_time, max(BATCH_BYTES * rows // declared, 1))
                for record in self._records(table, group, columns, row, at_a_time):
                    yield self._item(first + row, record)
                    row += 1
            except (*self.errors, MemoryError) as error:
                if getattr(error, "errno", None) is not None:  # the disk or network, not the file's content
                    raise
                if isinstance(error, MemoryError) and at_a_time > 1:
                    at_a_time = 1
                    continue
                kind = f"needs more than {TABLE_BYTES:,} bytes" if isinstance(error, MemoryError) else "is damaged"
                reason = f"row group {group} of {self.file.name} {kind}: {error}"
            break
        if row < rows:
            yield from self._lost(first + row, first + rows, reason)

    @staticmethod
    def _records(
        table: Any, group: int, columns: Sequence[str], skip: int, at_a_time: int
    ) -> Iterator[Mapping[str, Any]]:
        """Rows of a row group from `skip` on."""
        row = 0
        for batch in table.iter_batches(batch_size=at_a_time, row_groups=[group], columns=list(columns)):
            if row + len(batch) > skip:
                yield from batch.slice(max(skip - row, 0)).to_pylist()
            row += len(batch)

    def _key(self, row: int) -> str:
        return f"{PurePosixPath(self.file.key).with_suffix('')}/{row:06d}"

    def _address(self, row: int) -> str:
        return f"{self.location.address(self.file)}/{row:06d}"

    def _item(self, row: int, record: Mapping[str, Any]) -> Item:
        said = ((name, self._text(record, column)) for name, column in self.texts.items())
        texts = {name: text for name, text in said if text is not None}
        group = None if self.group is None or record[self.group] is None else str(record[self.group])
        item = Item(
            self._key(row),
            None,
            split=self.kinds.get(record[self.split]) if self.split else None,
            texts=texts,
            group=group,
            address=self._address(row),
        )
        try:
            label = label_of(self._named(record[self.label], self.label)) if self.label else None
        except SeveralLabels as several:
            choice = f"{self.wanted.modality}.ingest.columns.label"
            return replace(item, refused=f"{several}: set {choice} to a column of one, or to '' for none")
        content = record[self.content]
        content = content.get("bytes") if isinstance(content, dict) else content
        if self.strings and isinstance(content, str):
            content = content.encode()
        if not isinstance(content, bytes):
            reason = f"no {self.wanted.columns[0]}{'' if self.strings else ' bytes'} in this row"
            return replace(item, label=label, refused=reason)
        refused = too_large(len(content), self.wanted)
        return replace(item, data=None if refused else content, label=label, refused=refused)

    def _named(self, value: Any, column: str) -> Any:
        """A number that stands for a name as that name; None for a number without one."""
        names = self.names.get(column)
        if names and isinstance(value, int):
            return names[value] if 0 <= value < len(names) else None
        return value

    def _text(self, record: Mapping[str, Any], column: str) -> str | None:
        """A value as text, of a list with commas between."""
        value = self._named(record[column], column)
        if isinstance(value, list):
            value = ", ".join(str(self._named(one, column)) for one in value)
        return None if value is None or value != value else str(value)  # NaN is not itself


def _declared_bytes(table: Any, group: int, columns: Sequence[str]) -> int:
    """Bytes of some columns of a row group, unpacked, as the table says; repeated values may count once."""
    about = table.metadata.row_group(group)
    chunks = (about.column(number) for number in range(about.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


_FIELDS_OF = attrgetter(*(field.name for field in fields(Item)))


def _no_size(_: object) -> int:
    return 0


def _written_size(value: object) -> int:
    return len(str(value))


def _size(values: tuple[Any, ...]) -> int:
    _, data, label, _, _, texts, *_ = values
    return len(data or b"") + len(label or "") + sum(map(len, texts.values()))


def _label_or_none(value: Any) -> str | None:
    try:
        return label_of(value)
    except SeveralLabels:
        return None


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else str(value) if isinstance(value, dict) else value


def _hugging_face_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of the classes of each column, from the metadata that Hugging Face's `datasets` writes into a table."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        named = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}
    return {column: [str(name) for name in names] for column, names in named.items() if isinstance(names, list)}
