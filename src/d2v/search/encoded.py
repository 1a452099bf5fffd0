"""Vectors that `d2v encode --engine dask` has written, as rows of an index: nothing is encoded again.

A partition is added in one step. `encoded.json` beside the table says which partitions are in it, so that a build that
was killed goes on with the others. Memory is that of a batch of rows, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.disk import read_json, write_json
from d2v.data.url_paths import is_url
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.encode_cluster import DONE, WORK
from d2v.interchange.encode_files import ABOUT
from d2v.interchange.index_rows import FIELDS, HIDDEN, KINDS, id_of

JOURNAL = "encoded.json"
"""In the folder of an index: what it has taken. Identity of the features -> `Taken`'s keys."""
BATCH_ROWS = 512
AGAIN = "encode the items with d2v encode --engine dask --for-index and the model of the index, into another folder"


def is_encoded(path: Path) -> bool:
    """Whether a folder holds features that were encoded, all or some, and not items."""
    return (path / DONE).is_file() or (path / WORK / DONE).is_file()


class Partitions:
    """A whole folder of features.

    Args:
        folder: what `encode_on_cluster` left.

    Raises:
        DataError: it is damaged, or lacks partitions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / DONE).is_file():
            raise DataError(f"{folder} lacks partitions: give the command again that encoded them, which goes on")
        about = read_json(folder / DONE, DataError, f"remove {folder} and encode again", {"identity": str, "rows": int})
        self.identity, self.rows = str(about["identity"]), int(about["rows"])
        self.roots: list[str] = about.get("files", [])
        self.paths = sorted(folder.glob("part-*.parquet"))

    def overlap(self) -> bool:
        """Whether one item can lie in two partitions, as one of the paths lies in another."""
        pairs = combinations([f"{root.rstrip('/')}/" for root in self.roots], 2)
        return any(one.startswith(other) or other.startswith(one) for one, other in pairs)

    def partition(self, path: Path) -> Partition:
        """One of the files."""
        number = int(path.name.split("-")[1])
        return Partition(path, self.roots[number] if number < len(self.roots) else "")


class Partition:
    """A Parquet file of features.

    Args:
        path: of the file.
        root: the path that led to its items.

    Attributes:
        problems: files that have no vector, and why, once its batches were read.

    Raises:
        DataError: it cannot be read, or it holds no features.
    """

    def __init__(self, path: Path, root: str) -> None:
        self.path, self.root = path, root
        self.problems: list[tuple[str, str]] = []

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The file."""
        try:
            return pq.ParquetFile(self.path.open("rb") if is_url(self.path) else self.path)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the file says of its features."""
        try:
            said: dict[str, Any] = json.loads((self.file.schema_arrow.metadata or {})[ABOUT.encode()])
        except (KeyError, ValueError) as error:
            raise self._damaged("it does not say what its features are") from error
        return said

    def _damaged(self, why: object) -> DataError:
        return DataError(f"{self.path} cannot be read ({why}): remove its folder and encode again")

    def check(self, index: Mapping[str, Any]) -> None:
        """Whether its features are what an index holds.

        Args:
            index: contents of its index.json.

        Raises:
            CheckpointError: another encoder's, or nobody knows whose.
            ConfigError: of another space, of blocks, or pooled in another way.
        """
        said = self.about
        if said.get("fingerprint") != index["fingerprint"]:
            whose = said.get("source") or "a model that has no name"
            known = f"of another encoder ({whose})" if said.get("fingerprint") else "of a model that it does not name"
            raise CheckpointError(
                f"{self.path} holds vectors {known}, whose distances to those of the index ({index['model']}) mean "
                f"nothing: {AGAIN}"
            )
        found = {"space": said["space"], "pool": said["pool"], "layers": said.get("layers")}
        wanted = {"space": index["space"], "pool": "mean", "layers": None}
        if differing := [
            f"{name} {found[name]} and not {wanted[name]}" for name in found if found[name] != wanted[name]
        ]:
            raise ConfigError(f"{self.path} holds vectors of {', '.join(differing)}, as the index has: {AGAIN}")

    def first_id(self) -> str | None:
        """Of the first row that an index takes."""
        for batch in self.batches(0, previews=False):
            for name in batch.column("id").to_pylist():
                return str(name)
        return None

    def batches(self, width: int, previews: bool) -> Iterator[pa.RecordBatch]:
        """Rows of an index; of width 0 without vectors.

        Args:
            width: numbers of a vector.
            previews: whether to keep them.
        """
        self.problems = []
        for batch in self.file.iter_batches(BATCH_ROWS):
            vectors = batch.column("embedding")
            number_of_row = np.flatnonzero(vectors.is_valid())
            flat = vectors.drop_null().flatten().to_numpy()
            rows = flat.reshape(len(number_of_row), -1) if len(number_of_row) else np.zeros((0, width))
            usable = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
            chosen = number_of_row[usable]
            self._tell(batch, np.setdiff1d(np.arange(len(batch)), chosen))
            if len(chosen):
                yield self._rows(batch.take(pa.array(chosen)), rows[usable], width, previews)

    def _tell(self, batch: pa.RecordBatch, left_out: np.ndarray) -> None:
        """Why some rows are left out."""
        for one in batch.select(["file", "problem"]).take(pa.array(left_out, pa.int64())).to_pylist():
            reason = one["problem"] or "its features are all zero or not finite, so it is alike to nothing"
            self.problems.append((one["file"], reason))

    def _rows(self, batch: pa.RecordBatch, vectors: np.ndarray, width: int, previews: bool) -> pa.RecordBatch:
        names = set(batch.schema.names)
        columns = {name: batch.column(name) for name in (field.name for field in FIELDS) if name in names}
        if "id" not in names:  # what was not encoded for an index says files and lines
            lines = columns["line"].to_pylist() if "line" in names else [None] * len(batch)
            files = columns["file"].to_pylist()
            columns["id"] = pa.array(id_of(file, file, line) for file, line in zip(files, lines, strict=True))
            columns["root"] = pa.array([self.root] * len(batch))
        if not previews:
            columns = {name: column for name, column in columns.items() if name not in HIDDEN}
        for field in FIELDS:
            if field.name not in columns:
                empty = [HIDDEN.get(field.name)] * len(batch)
                columns[field.name] = pa.array(empty, KINDS.get(field.name, pa.string()))
        arrays = [columns[field.name] for field in FIELDS]
        if not width:
            return pa.record_batch(arrays, schema=pa.schema(FIELDS))
        if vectors.shape[1] != width:
            raise self._damaged(f"its vectors have {vectors.shape[1]} numbers and not {width}")
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)
        schema = pa.schema([*FIELDS, pa.field("vector", pa.list_(pa.float32(), width))])
        return pa.record_batch([*arrays, vector], schema=schema)


class Taken:
    """Which partitions an index has taken.

    Args:
        index: its folder.
        identity: of the features.

    Attributes:
        done: the number of partitions, which are taken in their order.
        begun: the next one may be in the table already.
        appends: none of their items was in the index before, so that rows need not be looked for.
    """

    def __init__(self, index: Path, identity: str) -> None:
        self._path, self._identity = index / JOURNAL, identity
        known = self._all().get(identity)
        self.is_new = known is None
        self.done, self.begun, self.appends = known or (0, False, False)

    def _all(self) -> dict[str, tuple[int, bool, bool]]:
        if not self._path.is_file():
            return {}
        return read_json(self._path, DataError, f"remove {self._path}", {})

    def write(self) -> None:
        """Leave it on the disk."""
        write_json(self._path, self._all() | {self._identity: (self.done, self.begun, self.appends)})


def forget_taken(index: Path) -> None:
    """After items were dropped: what was taken may be taken again."""
    (index / JOURNAL).unlink(missing_ok=True)
