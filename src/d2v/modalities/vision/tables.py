"""Images in Parquet tables, read batch by batch.

A row group that cannot be read comes back as items with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

from d2v.data.items import Item, Source
from d2v.errors import DataError
from d2v.modalities.vision.archives import Found, Place, too_large
from d2v.modalities.vision.arrays import IMAGE_NAMES, LABEL_NAMES, Part, in_order, parts_source, split_in

PARQUET_ROWS = 64  # images per batch read from a table


def parquet_source(place: Place, max_item_bytes: int) -> Source:
    """Tables with a column of encoded images, as bytes or as {bytes, path}; the split is in the file or folder names.

    Raises:
        DataError: not Parquet, or no column of images.
    """
    tables = [_Table(place, file, max_item_bytes) for file in place.files]
    parts = [Part(split_in(table.file.key), table.rows, table.items) for table in tables]
    named = next((table.class_names for table in tables if table.class_names), None)
    classes = named or in_order(sorted(set().union(*(table.labels() for table in tables))))
    return parts_source(f"Parquet {place.given}", place.fingerprint, parts, classes)


class _Table:
    """One Parquet file: `rows`, and `class_names` if its metadata tells them (as Hugging Face's do)."""

    def __init__(self, place: Place, file: Found, max_item_bytes: int) -> None:
        import pyarrow as pa  # imported late: half a second that other sources do not need

        self.place, self.file, self.max_item_bytes = place, file, max_item_bytes
        self.errors = (pa.ArrowException, OSError)
        try:
            with self._open() as table:
                schema, self.rows = table.schema_arrow, table.metadata.num_rows
        except self.errors as error:
            raise DataError(
                f"{file.path} cannot be read as Parquet ({error}): copy it again, or set vision.ingest.format to "
                "what it is."
            ) from error
        columns = {name.lower(): name for name in reversed(schema.names)}
        self.image = next((columns[name] for name in IMAGE_NAMES if name in columns), None)
        self.label = next((columns[name] for name in LABEL_NAMES if name in columns), None)
        if self.image is None:
            raise DataError(
                f"{file.path} has the columns {', '.join(schema.names)}, none of them with images: name it image "
                "(encoded files as bytes, or {bytes, path})."
            )
        self.class_names = _hugging_face_names(schema.metadata or {}, self.label)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with self.place.fs.open(self.file.path, "rb") as file, pq.ParquetFile(file) as table:
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
        columns = [name for name in (self.image, self.label) if name]
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
        label = record.get(self.label) if self.label else None
        if self.class_names and isinstance(label, int):
            label = self.class_names[label] if 0 <= label < len(self.class_names) else None
        image = record[self.image or ""]
        content = image.get("bytes") if isinstance(image, dict) else image
        name = None if label is None else str(label)
        if not isinstance(content, bytes):
            return Item(self._key(row), None, name, refused="no image bytes in this row")
        refused = too_large(len(content), self.max_item_bytes)
        return Item(self._key(row), None if refused else content, name, refused=refused)


def _hugging_face_names(metadata: Mapping[bytes, bytes], label: str | None) -> list[str] | None:
    """Class names from the metadata that Hugging Face's `datasets` writes into a table."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
