"""Arrow IPC shards: written one whole file at a time, read memory-mapped by row.

A shard is one record batch, so that every column of it is one contiguous buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data.disk import sync
from d2v.errors import DataError

SHARD_SUFFIX = ".arrow"


class ShardWriter:
    """Collects rows and writes `part-00000.arrow`, ... when about `shard_bytes` have come together.

    Args:
        folder: created if it is not there.
        schema: columns of a row.
        shard_bytes: payload of one shard, which is also what the writer holds in memory.
        first: number of the next shard, for writing that is resumed.
    """

    def __init__(self, folder: Path, schema: pa.Schema, shard_bytes: int, first: int = 0) -> None:
        self.folder, self.schema, self.shard_bytes, self.shards = folder, schema, shard_bytes, first
        folder.mkdir(parents=True, exist_ok=True)
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        self._bytes = 0

    def append(self, row: Mapping[str, Any]) -> bool:
        """Add a row; True if that completed a shard, which then is on the disk."""
        for name, values in self._columns.items():
            values.append(row[name])
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, bytes))
        return self._bytes >= self.shard_bytes and self.flush()

    def flush(self) -> bool:
        """Write what is left; False if there was nothing."""
        if not self._columns[self.schema.names[0]]:
            return False
        path = shard_path(self.folder, self.shards)
        temporary = path.with_name(f".{path.name}.tmp")
        write_shard(temporary, self._columns, self.schema)
        temporary.replace(path)
        self.shards += 1
        self._clear()
        return True


def write_shard(path: Path, columns: Mapping[str, Sequence[Any] | pa.Array], schema: pa.Schema) -> None:
    """Write one shard to the disk.

    Args:
        path: of the file.
        columns: name -> its values, row by row.
        schema: of the shard.
    """
    arrays = [_as_array(columns[field.name], field.type) for field in schema]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    sync(path)


def _as_array(values: Sequence[Any] | pa.Array, data_type: pa.DataType) -> pa.Array:
    return values.cast(data_type) if isinstance(values, pa.Array) else pa.array(values, data_type)


def shard_path(folder: Path, number: int) -> Path:
    """The file of one shard."""
    return folder / f"part-{number:05d}{SHARD_SUFFIX}"


class ShardReader:
    """Random access to the rows of a folder of shards, without reading them into memory.

    Raises:
        DataError: a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open()

    def _open(self) -> None:
        self._batches = [read_batch(path) for path in sorted(self.folder.glob("part-*.arrow"))]
        self._starts = np.cumsum([0] + [batch.num_rows for batch in self._batches])
        self._last_shard = -1
        self._views: dict[str, list[np.ndarray]] = {}
        self._large: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._open()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def starts(self) -> np.ndarray:
        """(shards + 1,) the first row of each shard, and the number of rows."""
        return self._starts

    def column(self, name: str) -> Iterator[Any]:
        """All values of a small column, shard by shard."""
        for batch in self._batches:
            yield from batch.column(name).to_pylist()

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of each shard."""
        for batch in self._batches:
            yield batch.select(list(names))

    def integers(self, name: str) -> np.ndarray:
        """An integer column as one int64 array."""
        columns = [batch.column(name).to_numpy() for batch in self._batches]
        return np.concatenate([np.zeros(0, np.int64), *columns]).astype(np.int64)

    def floats(self, name: str) -> np.ndarray:
        """A floating-point column as one float32 array."""
        columns = [batch.column(name).to_numpy() for batch in self._batches]
        return np.concatenate([np.zeros(0, np.float32), *columns]).astype(np.float32)

    def binary(self, name: str, row: int) -> bytes:
        """One value of a binary column. Reading all of them in order holds one shard in memory at a time."""
        shard, offset = self._locate(row)
        if shard == self._last_shard + 1 > 0:  # pages that were read count as this process's as long as they are mapped
            self._batches[shard - 1] = read_batch(shard_path(self.folder, shard - 1))
        self._last_shard = shard
        return bytes(self._batches[shard].column(name)[offset].as_py())

    def view(self, name: str, row: int) -> np.ndarray:
        """One value of a large binary column where it lies in the file: (size,) uint8, read-only, not copied."""
        if name not in self._large:
            self._large[name] = [_large_view(batch.column(name)) for batch in self._batches]
        shard, offset = self._locate(row)
        ends, values = self._large[name][shard]
        return values[ends[offset] : ends[offset + 1]]

    def fixed(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Values of a fixed-size binary column: (len(rows), size) uint8."""
        if name not in self._views:
            self._views[name] = [_fixed_view(batch.column(name)) for batch in self._batches]
        views = self._views[name]
        rows = np.asarray(rows, dtype=np.int64)
        if len(views) == 1:
            return views[0][rows]
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        values = np.empty((len(rows), views[0].shape[1]), dtype=np.uint8)
        for shard in np.unique(shards):
            chosen = shards == shard
            values[chosen] = views[shard][rows[chosen] - self._starts[shard]]
        return values

    def _locate(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])


def _fixed_view(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    size = column.type.byte_width
    return np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * size).reshape(len(column), size)


def _large_view(column: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Where values end (rows + 1,) int64, and the bytes of all of them."""
    _, ends, values = column.buffers()
    return np.frombuffer(ends, np.int64, len(column) + 1), np.frombuffer(values or b"", np.uint8)


def read_batch(path: Path) -> pa.RecordBatch:
    """The rows of a shard, where they lie in its file. Raises DataError if it is damaged."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"The shard {path} is damaged ({error}): remove its folder {path.parent.parent} and run the step again"
        ) from error
