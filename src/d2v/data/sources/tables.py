"""Items in Parquet tables, read batch by batch.

A row group that cannot be read comes back as items with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from d2v.data.sources.columns import Columns, first_column
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.locations import Found, Location
from d2v.data.sources.row_sources import Split, in_order, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kind_of, kinds_of_files
from d2v.errors import DataError

PARQUET_ROWS = 64  # items per batch read from a table


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

        self.location, self.file, self.wanted, self.strings = location, file, wanted, columns.strings
        self.errors, self.is_nested = (pa.ArrowException, OSError), pa.types.is_nested
        try:
            with self._open() as table:
                schema, self.rows = table.schema_arrow, table.metadata.num_rows
        except self.errors as error:
            raise DataError(
                f"{file.path} cannot be read as Parquet ({error}): copy it again, or set {wanted.modality}.ingest."
                "format to what it is."
            ) from error
        columns.check(schema.names, file.path)
        self.content = self._content(schema.names)
        self.label = first_column(columns.labels, schema.names)
        texts = ((name, first_column(choices, schema.names)) for name, choices in columns.texts.items())
        self.texts = {name: column for name, column in texts if column}
        self.group = first_column(columns.groups, schema.names)
        self.names = _hugging_face_names(schema.metadata or {})
        self.kinds = self._split_kinds(columns, schema.names)
        self.class_names = self.names.get(self.label or "")

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

        with self.location.fs.open(self.file.path, "rb") as file, pq.ParquetFile(file) as table:
            yield table

    def labels(self) -> set[str]:
        """All labels of the table, from its label column alone."""
        if self.label is None or self.class_names:
            return set()
        return {label for value in self._values(self.label) if (label := _label_or_none(value)) is not None}

    def _values(self, column: str) -> set[Any]:
        """Different values of a column; what is damaged, items() tells."""
        found: set[Any] = set()
        with suppress(*self.errors), self._open() as table:
            for batch in table.iter_batches(columns=[column]):
                values = batch.column(0)
                is_nested = self.is_nested(values.type)
                found.update(map(_hashable, values.to_pylist() if is_nested else values.unique().to_pylist()))
        return found

    def items(self, start: int) -> Iterator[Item]:
        """Rows from `start` on; row groups before it are not read."""
        with self._open() as table:
            first = 0
            for group in range(table.metadata.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if first + rows > start:
                    yield from self._group_items(table, group, first, max(start - first, 0), rows)
                first += rows

    def _group_items(self, table: Any, group: int, first: int, skip: int, rows: int) -> Iterator[Item]:
        """Rows `skip` to `rows` of a row group whose first row is `first` in the table."""
        names = (self.content, self.label, self.split, self.group, *self.texts.values())
        columns = list(dict.fromkeys(name for name in names if name))
        row, reason = 0, ""
        try:
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, row_groups=[group], columns=columns):
                if row + len(batch) > skip:
                    for record in batch.slice(max(skip - row, 0)).to_pylist():
                        yield self._item(first + max(row, skip), record)
                        row = max(row, skip) + 1
                else:
                    row += len(batch)
        except self.errors as error:
            if getattr(error, "errno", None) is not None:  # the disk or network, not the file's content
                raise
            reason = f"row group {group} of {self.file.name} is damaged: {error}"
        for lost in range(max(row, skip), rows):
            yield Item(self._key(first + lost), None, refused=reason, address=self._address(first + lost))

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
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {column: [str(name) for name in names] for column, names in named.items() if isinstance(names, list)}
