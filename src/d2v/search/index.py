"""Vectors of a user's items in a LanceDB table on disk.

The table has a row an item: where it lies, its class, the SHA-256 of its content, its vector, a small preview. A second
`build` with the same paths encodes what is new or changed and removes what is gone. Rows are written WRITTEN_AT_A_TIME;
each write is whole or not there, so a build that was killed goes on where it stood. Beside the table stands
`index.json` with the fingerprint of the encoder: another encoder's vectors mean something else, so it is refused.

Up to EXACT_ITEMS the search looks at every vector. Above, LanceDB's IVF_PQ index finds candidates, whose true distances
are then computed; `build` measures how many of the true nearest items that finds (its recall) and says it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data.disk import full_disk_named, one_at_a_time, read_json, write_json
from d2v.data.ingest import one_line
from d2v.data.sources.source import Item
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.load import Model, Space, check_finite
from d2v.modalities import registry
from d2v.modalities.base import Modality, Preview
from d2v.progress import Progress, log

ABOUT, TABLE = "index.json", "items"
EXACT_ITEMS = 50_000
PROBED, REFINED, RECALL_AT, RECALL_QUERIES = 32, 20, 10, 50
WRITTEN_AT_A_TIME = 512
PREVIEW_BYTES = 200_000
"""A preview that is larger is left out."""
FORMAT = 1
INSTALL = "pip install 'd2v[search]'"
COLUMNS = ("id", "root", "file", "line", "label", "sha256", "snippet", "media_type", "preview", "is_small")
SHOWN = ("id", "file", "line", "label", "snippet", "media_type", "preview", "is_small")


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        items: in the index now.
        added, changed, removed: items.
        problems: items that could not be read, which are not in it.
        first: the first of these, with the reason.
        recall: share of the true 10 nearest items that the search finds: 1 where it looks at all of them.
    """

    items: int
    added: int
    changed: int
    removed: int
    problems: int = 0
    first: str = ""
    recall: float = 1.0


@dataclass(frozen=True)
class Hit:
    """An item that was found.

    Attributes:
        similarity: cosine, at most 1.
        file: where it lies.
        line: of the file, from 1, where that holds several items.
        label: name of its class, if it has one.
        preview: for people, if there is one.
    """

    similarity: float
    file: str
    line: int | None
    label: str | None
    preview: Preview | None = None


def fingerprint(model: Model) -> str:
    """SHA-256 of the weights that make vectors, and of the space, whatever file they came from."""
    return model.fingerprint()


class Index:
    """An index that `build` left.

    Args:
        folder: of it.
        create: make its table if that is not there, as `build` does.

    Attributes:
        about: contents of its index.json.

    Raises:
        DataError: there is no index, or it is damaged.
        ConfigError: LanceDB is not installed.
    """

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder = folder
        remedy = f"make an index with d2v index FILES --model MODEL --out {folder}"
        needs = {"width": int, "fingerprint": str, "modality": str, "model": str, "space": str, "recall": float}
        self.about = read_json(folder / ABOUT, DataError, remedy, needs)
        self._table = _open_table(folder, self.about["width"], create)

    def __len__(self) -> int:
        return int(self._table.count_rows())

    @property
    def modality(self) -> Modality:
        """Of the items."""
        return registry.get(str(self.about["modality"]))

    @classmethod
    def build(
        cls,
        model: Model,
        paths: Sequence[Path],
        folder: Path,
        ingest: Mapping[str, object] | None = None,
        previews: bool = True,
    ) -> tuple[Index, Built]:
        """Make an index of the items of paths, or bring it up to date with them; items of other paths stay.

        Args:
            model: whose vectors; in the space to search in if it has one, else its plain features.
            paths: folders, archives, tables or files, read as ingest reads them.
            folder: of the index.
            ingest: keys of the modality's ingest block, such as `{"columns": {"text": "body"}}`.
            previews: whether to keep a thumbnail, a clip or the beginning of each item, which pages show.

        Raises:
            CheckpointError: the index is another encoder's.
            DataError: no paths, or one that is not there; the disk is full.
            ConfigError: LanceDB is not installed.
        """
        if not paths:
            raise DataError("There is nothing to index: give folders or files")
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise DataError(f"{', '.join(missing)}: not there. Give folders or files; looked for in {Path.cwd()}")
        built = _build(model, [Path(path) for path in paths], out=folder, ingest=ingest or {}, previews=previews)
        return cls(folder), built

    def check(self, model: Model) -> None:
        """Raises CheckpointError if the index is another encoder's."""
        if self.about["fingerprint"] != fingerprint(model):
            raise CheckpointError(
                f"{self.folder} holds vectors of another encoder ({self.about['model']}), whose distances to this "
                "one's mean nothing: search with that one, or make another index with d2v index"
            )

    def nearest(
        self, vector_R: np.ndarray, count: int = 10, where: str | None = None, exact: bool = False
    ) -> list[Hit]:
        """The items whose vectors point the most the same way.

        Args:
            vector_R: of a question.
            count: of items.
            where: condition on the columns id, root, file, line, label, sha256 and snippet, in SQL.
            exact: look at all vectors, whatever their number.
        """
        search = self._table.search(np.asarray(vector_R, np.float32)).distance_type("cosine")
        search = search.bypass_vector_index() if exact else search.nprobes(PROBED).refine_factor(REFINED)
        if where:
            search = search.where(where, prefilter=True)
        with _reading(self.folder):
            found = search.select([*SHOWN, "_distance"]).limit(count).to_arrow().to_pylist()
        return [hit_of(row, 1.0 - float(row["_distance"])) for row in found]

    def vectors(self) -> tuple[np.ndarray, list[str]]:
        """((n, R) float32 vectors of length one, n ids), in the order of ids."""
        with _reading(self.folder):
            table = self._table.search().select(["id", "vector"]).limit(max(len(self), 1)).to_arrow().sort_by("id")
        rows = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, int(self.about["width"]))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), table["id"].to_pylist()

    def hits(self, ids: Sequence[str], similarities: Sequence[float]) -> list[Hit]:
        """Items by id, in this order."""
        found: dict[str, dict[str, Any]] = {}
        for some in _in_parts(sorted(set(ids)), 500):
            with _reading(self.folder):
                rows = self._table.search().where(_one_of("id", some)).select([*SHOWN]).limit(len(some)).to_arrow()
            found |= {row["id"]: row for row in rows.to_pylist()}
        return [hit_of(found[one], value) for one, value in zip(ids, similarities, strict=True)]


def hit_of(row: Mapping[str, Any], similarity: float) -> Hit:
    """A row of the table."""
    text, media_type, data = row["snippet"] or "", row["media_type"] or "", row["preview"] or b""
    preview = Preview(text, media_type, data, bool(row["is_small"])) if text or data else None
    return Hit(similarity, row["file"], row["line"], row["label"], preview)


# ------------------------------------------------------------------------------------------------ build


@one_at_a_time
def _build(model: Model, paths: Sequence[Path], out: Path, ingest: Mapping[str, object], previews: bool) -> Built:
    space: Space = "plain" if model.search_space is None else "search"
    if space == "plain":
        log("index: the model has no space to search in, so plain features are compared; d2v space makes one")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / ABOUT).is_file():
        about = {"format": FORMAT, "modality": model.modality, "space": space, "width": model.width_in(space)}
        about |= {"fingerprint": fingerprint(model), "model": str(model.about.get("source", "")), "recall": 1.0}
        write_json(out / ABOUT, about)
    index = Index(out, create=True)
    index.check(model)
    with full_disk_named(out, DataError, "What was written before is kept."):
        built = _Building(index, model, space, ingest, previews).run(paths)
        recall = _optimize(index)
    return Built(len(index), built.added, built.changed, built.removed, len(built.problems), built.first, recall)


class _Building:
    """The walk over the items of some paths."""

    def __init__(self, index: Index, model: Model, space: Space, ingest: Mapping[str, object], previews: bool) -> None:
        self.index, self.model, self.space, self.ingest, self.previews = index, model, space, ingest, previews
        self.table = index._table
        self.modality = registry.get(model.modality)
        self.added = self.changed = self.removed = 0
        self.problems: list[str] = []

    @property
    def first(self) -> str:
        """The first problem."""
        return self.problems[0] if self.problems else ""

    def run(self, paths: Sequence[Path]) -> _Building:
        """Bring the items of these paths up to date, one after the other."""
        for path in paths:
            root = str(path.resolve())
            known = self._known(root)
            seen: set[str] = set()
            before = len(self.problems)
            with Progress("index", None) as progress:
                for some in _in_parts(self._new(path, root, known, seen), WRITTEN_AT_A_TIME):
                    self._write(some, known)
                    progress.advance(len(some))
            if len(self.problems) > before and not seen:
                log(f"index: {path} gave no item, so what the index has of it stays")
                continue
            gone = sorted(known.keys() - seen)
            for ids in _in_parts(gone, 500):
                self.table.delete(_one_of("id", ids))
            self.removed += len(gone)
        return self

    def _known(self, root: str) -> dict[str, tuple[str, str | None]]:
        """id -> digest of the content, and class."""
        rows = self.table.search().where(f"root = {quoted(root)}").select(["id", "sha256", "label"])
        with _reading(self.index.folder):
            found = rows.limit(max(self.table.count_rows(), 1)).to_arrow().to_pylist()
        return {row["id"]: (row["sha256"], row["label"]) for row in found}

    def _new(
        self, path: Path, root: str, known: Mapping[str, object], seen: set[str]
    ) -> Iterator[tuple[dict[str, Any], object]]:
        """(row without vector, raw item) of items that are new or changed."""
        try:
            opened = self.modality.open_files(path, self.ingest)
            for item in opened.source.items(0):
                file = _text(item.address or f"{path}/{item.key}")
                name = hashlib.sha256(f"{root}\0{file}\0{item.key}\0{item.line}".encode()).hexdigest()
                if item.data is None or item.refused:
                    self.problems.append(f"{file}: {item.refused or 'it has no content'}")
                    continue
                sha256 = hashlib.sha256(_content(item)).hexdigest()
                if known.get(name) != (sha256, item.label):
                    try:
                        raw = opened.read(item)
                    except DataError as error:
                        self.problems.append(f"{file}: {error}")
                        continue
                    row = {"id": name, "root": root, "file": file, "line": item.line, "label": item.label}
                    yield row | {"sha256": sha256, **self._shown(item)}, raw
                seen.add(name)
        except DataError as error:
            self.problems.append(f"{path}: {error}")
            seen.update(known)  # the walk ended early: nothing is known to be gone

    def _shown(self, item: Item) -> dict[str, Any]:
        """The columns of an item's preview. An item that cannot be shown can still be found."""
        nothing: dict[str, Any] = {"snippet": None, "media_type": None, "preview": None, "is_small": False}
        if not self.previews or not isinstance(item.data, bytes):
            return nothing
        try:
            preview = self.modality.preview(item.data, dict(item.texts))
        except Exception:
            return nothing
        if preview is None or len(preview.data) > PREVIEW_BYTES:
            return nothing
        shown = {"snippet": _text(preview.text), "media_type": preview.media_type}
        return shown | {"preview": preview.data, "is_small": preview.is_small}

    def _write(self, some: Sequence[tuple[dict[str, Any], object]], known: Mapping[str, object]) -> None:
        vectors = self._vectors([raw for _, raw in some])
        rows, outdated = [], []
        for (row, _), vector in zip(some, vectors, strict=True):
            if isinstance(vector, str):
                self.problems.append(f"{row['file']}: {vector}")
                outdated += [row["id"]] if row["id"] in known else []
                continue
            rows.append(row | {"vector": vector})
            self.changed += row["id"] in known
            self.added += row["id"] not in known
        if rows:
            table = pa.Table.from_pylist(rows, schema=_schema(int(self.index.about["width"])))
            self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(table)
        if outdated:  # what an item held before is no answer any more
            self.table.delete(_one_of("id", outdated))
            self.removed += len(outdated)

    def _vectors(self, raw: Sequence[object]) -> list[np.ndarray | str]:
        """A vector an item, or why there is none."""
        found: dict[int, np.ndarray | str] = {}
        for numbers in self.model.batch_limit().by_length([self.model.tokens_of(one) for one in raw]):
            found |= dict(zip(numbers, self._batch([raw[number] for number in numbers]), strict=True))
        return [found[number] for number in range(len(raw))]

    def _batch(self, raw: list[object]) -> list[np.ndarray | str]:
        try:
            features = self.model.features(self.model.to_inputs(raw, long="windows"), space=self.space)
            for one in features:
                check_finite(one, "the item")
        except DataError as error:
            return [str(error)] if len(raw) == 1 else [one for item in raw for one in self._batch([item])]
        return list(features)


def _optimize(index: Index) -> float:
    """Join small files; above EXACT_ITEMS index vectors, and measure the recall of that."""
    table = index._table
    with warnings.catch_warnings(action="ignore"):
        table.optimize(cleanup_older_than=timedelta(hours=1))
    recall = 1.0
    if len(index) > EXACT_ITEMS:
        if not table.list_indices():
            from lancedb.index import IvfPq

            table.create_index("vector", config=IvfPq(distance_type="cosine"))
        recall = measure_recall(index)
        log(f"index: above {EXACT_ITEMS:,} items the search is not exact; it finds {recall:.1%} of the nearest 10")
    if recall != index.about["recall"]:
        index.about["recall"] = recall
        write_json(index.folder / ABOUT, index.about)
    return recall


def measure_recall(index: Index) -> float:
    """Share of the true RECALL_AT nearest items of RECALL_QUERIES items that the search finds."""
    rows, _ = index.vectors()
    asked = np.linspace(0, len(rows) - 1, RECALL_QUERIES).astype(int)
    right = 0.0
    for row in asked:
        both = (index.nearest(rows[row], RECALL_AT, exact=exact) for exact in (True, False))
        true, found = ({(hit.file, hit.line) for hit in hits} for hits in both)
        right += len(true & found) / max(len(true), 1)
    return right / len(asked)


# ------------------------------------------------------------------------------------------------ table


def _open_table(folder: Path, width: int, create: bool) -> Any:
    if importlib.util.find_spec("lancedb") is None:
        raise ConfigError(f"an index needs LanceDB, which is not installed: {INSTALL}")
    import lancedb

    with _reading(folder):
        tables = lancedb.connect(str(folder))
        return tables.create_table(TABLE, schema=_schema(width), exist_ok=True) if create else tables.open_table(TABLE)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raises DataError for what LanceDB finds damaged or missing."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{folder} cannot be read as an index ({one_line(str(error))}): remove the folder and make it again with "
            "d2v index"
        ) from error


def _schema(width: int) -> pa.Schema:
    kinds = {"line": pa.int64(), "preview": pa.binary(), "is_small": pa.bool_()}
    fields = [pa.field(name, kinds.get(name, pa.string())) for name in COLUMNS]
    return pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), width))])


def _content(item: Item) -> bytes:
    return item.data if isinstance(item.data, bytes) else np.ascontiguousarray(item.data).tobytes()


def _text(value: str) -> str:
    """Valid text of a name or a beginning that may not be."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def quoted(value: str) -> str:
    """A string in SQL."""
    return "'" + value.replace("'", "''") + "'"


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(map(quoted, values))})"


def _in_parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
