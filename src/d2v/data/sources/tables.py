"""Items in Parquet tables, read batch by batch.

A row group that cannot be read comes back as items with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.locations import Found, Location
from d2v.data.sources.row_sources import LABEL_NAMES, Split, in_order, source_of_splits, split_in
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError

PARQUET_ROWS = 64  # items per batch read from a table


@dataclass(frozen=True)
class Columns:
    """Where to look in a table for what is beside the content; the likeliest names first, in lower case.

    Attributes:
        labels: columns of the class.
        texts: name in `Item.texts` -> columns of it.
        strings: whether the content may be strings, which become UTF-8; else only bytes are content.
    """

    labels: Sequence[str] = LABEL_NAMES
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    strings: bool = False


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
    splits = [Split(split_in(table.file.key), table.rows, table.items) for table in tables]
    named = next((table.class_names for table in tables if table.class_names), None)
    classes = named or in_order(sorted(set().union(*(table.labels() for table in tables))))
    return source_of_splits(f"Parquet {location.given}", location.fingerprint, splits, classes)


class _Table:
    """One Parquet file: `rows`, and `class_names` if its metadata tells them (as Hugging Face's do)."""

    def __init__(self, location: Location, file: Found, wanted: Wanted, columns: Columns) -> None:
        import pyarrow as pa  # imported late: half a second that other sources do not need

        self.location, self.file, self.wanted, self.strings = location, file, wanted, columns.strings
        self.errors = (pa.ArrowException, OSError)
        try:
            with self._open() as table:
                schema, self.rows = table.schema_arrow, table.metadata.num_rows
        except self.errors as error:
            raise DataError(
                f"{file.path} cannot be read as Parquet ({error}): copy it again, or set {wanted.modality}.ingest."
                "format to what it is."
            ) from error
        self.content = self._content(schema.names)
        self.label = _first(columns.labels, schema.names)
        texts = ((name, _first(choices, schema.names)) for name, choices in columns.texts.items())
        self.texts = {name: column for name, column in texts if column}
        self.names = _hugging_face_names(schema.metadata or {})
        self.class_names = self.names.get(self.label or "")

    def _content(self, names: Sequence[str]) -> str:
        found = _first(self.wanted.columns, names)
        if found is None:
            kinds = "strings" if self.strings else "encoded files as bytes, or {bytes, path}"
            raise DataError(
                f"{self.file.path} has the columns {', '.join(names)}, none of them with {self.wanted.noun}: name it "
                f"{self.wanted.columns[0]} ({kinds})."
            )
        return found

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with self.location.fs.open(self.file.path, "rb") as file, pq.ParquetFile(file) as table:
            yield table

    def labels(self) -> set[str]:
        """All labels of the table, from its label column alone."""
        if self.label is None or self.class_names:
            return set()
        found: set[str] = set()
        with suppress(*self.errors), self._open() as table:  # items() tells what is damaged
            for batch in table.iter_batches(columns=[self.label]):
                found.update(str(value) for value in batch.column(0).unique().to_pylist() if value is not None)
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
        columns = list(dict.fromkeys(name for name in (self.content, self.label, *self.texts.values()) if name))
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
            yield Item(self._key(first + lost), None, refused=reason)

    def _key(self, row: int) -> str:
        return f"{PurePosixPath(self.file.key).with_suffix('')}/{row:06d}"

    def _item(self, row: int, record: Mapping[str, Any]) -> Item:
        label = self._text(record, self.label) if self.label else None
        said = ((name, self._text(record, column)) for name, column in self.texts.items())
        texts = {name: text for name, text in said if text is not None}
        content = record[self.content]
        content = content.get("bytes") if isinstance(content, dict) else content
        if self.strings and isinstance(content, str):
            content = content.encode()
        if not isinstance(content, bytes):
            reason = f"no {self.wanted.columns[0]}{'' if self.strings else ' bytes'} in this row"
            return Item(self._key(row), None, label, refused=reason, texts=texts)
        refused = too_large(len(content), self.wanted)
        return Item(self._key(row), None if refused else content, label, refused=refused, texts=texts)

    def _text(self, record: Mapping[str, Any], column: str) -> str | None:
        """A value as text; a number that stands for a name is that name."""
        value, names = record[column], self.names.get(column)
        if names and isinstance(value, int):
            value = names[value] if 0 <= value < len(names) else None
        return None if value is None else str(value)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the wanted columns that is there, in whatever case."""
    columns = {name.lower(): name for name in reversed(names)}
    return next((columns[name.lower()] for name in wanted if name.lower() in columns), None)


def _hugging_face_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of the classes of each column, from the metadata that Hugging Face's `datasets` writes into a table."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        named = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {column: [str(name) for name in names] for column, names in named.items() if isinstance(names, list)}
