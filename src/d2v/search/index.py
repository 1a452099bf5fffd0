"""Vectors of a user's items in a LanceDB table on disk.

The table has a row an item: where it lies, when that file was modified, its class, the SHA-256 of its content, its
vector, a small preview. A second `build` with the same paths encodes what is new or changed and removes what is gone
from them. A path that is gone itself may be a disk that is not mounted: its items stay, are named, and `drop` removes
them. Rows are written WRITTEN_AT_A_TIME; each write is whole or not there, so a build that was killed goes on where it
stood. Beside the table stands `index.json` with the fingerprint of the encoder: another encoder's vectors mean
something else, so it is refused.

Up to EXACT_ITEMS the search looks at every vector. Above, LanceDB's IVF_SQ index finds candidates, whose true distances
are then computed; `build` measures how many of the true nearest items that finds (its recall), looks at more parts of
the index until that is RECALL_WANTED, and says it. Where nothing is enough, the search looks at every vector.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from d2v.alignment.space import encoder_fingerprint
from d2v.data.disk import full_disk_named, one_at_a_time, read_json, write_json
from d2v.data.ingest import one_line
from d2v.data.sources.source import Item, Source
from d2v.data.url_paths import is_url, place_of
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.search_space import SearchSpace
from d2v.interchange.aligned import AlignedModels
from d2v.interchange.index_rows import (
    FIELDS,
    HIDDEN,
    INDEX_LONG,
    MODIFIED,
    digest_of,
    id_of,
    modified_s_of,
    shown,
    space_of,
    text_of,
)
from d2v.interchange.load import Model, Space, check_finite
from d2v.modalities import registry
from d2v.modalities.base import Preview
from d2v.models.encoder import Encoder
from d2v.progress import Progress, log
from d2v.search.encoded import Partitions, Taken, forget_taken, is_encoded

ABOUT, TABLE = "index.json", "items"
EXACT_ITEMS = 50_000
PROBED, REFINED, RECALL_AT, RECALL_QUERIES = (32, 128, 512), 20, 10, 50
"""Parts of the index that are looked at, candidates for each item asked for, and how the recall of that is measured."""
RECALL_WANTED = 0.95
OUTGROWN = 4
"""An index of the vectors is made anew once there are so many times as many as it was made of."""
KEPT = timedelta(minutes=1)
"""How long files of earlier states stay, which a search that has begun may read."""
MOST_BY_INDEX = 1_000
"""More items than this are found by looking at all vectors."""
WRITTEN_AT_A_TIME = 512
FORMAT = 1
INSTALL = "pip install 'd2v[search]'"
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
        modified_s: seconds since 1970 at which the file, or the archive or table that the item lies in, was modified
            last before it was indexed; None where that is not known.
    """

    similarity: float
    file: str
    line: int | None
    label: str | None
    preview: Preview | None = None
    modified_s: float | None = None


class Encoding(Protocol):
    """What makes vectors: a `Model`, or one that is served."""

    @property
    def encoder(self) -> Encoder:
        """Of the items."""
        ...

    @property
    def search_space(self) -> SearchSpace | None:
        """In which its vectors are, if it has one."""
        ...


Encoders = Model | AlignedModels
"""What an index is made with: an encoder, or several that share a space."""


def fingerprint(model: Encoding | AlignedModels) -> str:
    """SHA-256 of the weights that make vectors, and of the space, whatever file they came from."""
    if isinstance(model, AlignedModels):
        return model.fingerprint()
    return encoder_fingerprint(model.encoder, model.search_space)


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

    @classmethod
    def build(
        cls,
        model: Encoders,
        paths: Sequence[Path],
        folder: Path,
        ingest: Mapping[str, object] | None = None,
        previews: bool = True,
        drop: Sequence[Path] = (),
    ) -> tuple[Index, Built]:
        """Make an index of the items of paths, or bring it up to date with them; items of other paths stay.

        What an item is called does not depend on the path that led to it: a folder and one inside of it may be given
        in turn.

        Args:
            model: whose vectors; in the space to search in if it has one, else its plain features. Of encoders that
                share a space (`d2v.load_aligned`) in that one: folders may then hold items of all their modalities.
            paths: folders, archives, tables or files, read as ingest reads them.
            folder: of the index.
            ingest: keys of the modality's ingest block, such as `{"columns": {"text": "body"}}`.
            previews: whether to keep a thumbnail, a clip or the beginning of each item, which pages show.
            drop: files and folders whose items are removed first, whether they are still there or not.

        Raises:
            CheckpointError: the index is another encoder's.
            DataError: no paths, or one that is not there; nothing to drop; the disk is full.
            ConfigError: LanceDB is not installed.
        """
        if not paths and not drop:
            raise DataError("There is nothing to index: give folders or files")
        missing = [str(path) for path in paths if not place_of(path).exists()]
        if missing:
            raise DataError(
                f"{', '.join(missing)}: not there. Give folders or files; looked for in {Path.cwd()}. An index that "
                "has items of them keeps these: if they are gone for good, remove them with d2v index --drop PATH"
            )
        built = _build(
            model, [place_of(path) for path in paths], drop, out=folder, ingest=ingest or {}, previews=previews
        )
        return cls(folder), built

    def check(self, model: Encoding | AlignedModels | str) -> None:
        """Raises CheckpointError if the index is another encoder's, or of another fingerprint."""
        if self.about["fingerprint"] != (model if isinstance(model, str) else fingerprint(model)):
            raise CheckpointError(
                f"{self.folder} holds vectors of another encoder ({self.about['model']}), or of this one before it was "
                "trained again, whose distances to this one's mean nothing: take the encoder that made it, or make "
                "another index with d2v index and another --out"
            )

    def nearest(
        self, vector_R: np.ndarray, count: int = 10, where: str | None = None, exact: bool = False
    ) -> list[Hit]:
        """The items whose vectors point the most the same way.

        Args:
            vector_R: of a question.
            count: of items.
            where: condition on the columns id, root, file, line, label, sha256, modified_s and snippet, in SQL.
            exact: look at all vectors, whatever their number.

        Raises:
            ConfigError: a vector of another width.
            DataError: numbers that are not finite, or that are all 0.
        """
        vector_R = np.asarray(vector_R, np.float32)
        if vector_R.shape != (self.about["width"],):
            raise ConfigError(
                f"a vector of the shape {vector_R.shape} asks an index of {self.about['width']} numbers each: give one "
                f"that its encoder made with space={self.about['space']}"
            )
        if not np.isfinite(vector_R).all() or not vector_R.any():
            raise DataError("The vector has NaN, infinity or nothing but 0, so nothing is near it: give another one")
        count = min(count, len(self))  # LanceDB reserves memory for as many candidates as it is asked for
        if not count:
            return []
        found = self._nearest(vector_R, count, where, exact, [*self._shown(), "_distance"])
        return [hit_of(row, 1.0 - float(row["_distance"])) for row in found]

    def _nearest(
        self, vector_R: np.ndarray, count: int, where: str | None, exact: bool, columns: list[str]
    ) -> list[dict[str, Any]]:
        search = self._table.search(vector_R).distance_type("cosine")
        probed = int(self.about.get("probed", PROBED[0]))
        if exact or not probed or count > MOST_BY_INDEX:
            search = search.bypass_vector_index()
        else:  # further parts are looked at where a filter leaves less than `count` in the nearest ones
            search = search.minimum_nprobes(probed).maximum_nprobes(0).refine_factor(REFINED)
        if where:
            search = search.where(where, prefilter=True)
        with _reading(self.folder):
            rows: list[dict[str, Any]] = search.select(columns).limit(count).to_arrow().to_pylist()
        return rows

    def has_times(self) -> bool:
        """Whether items have times: indexes of before have none until they are brought up to date."""
        return MODIFIED in self._table.schema.names

    def lost(self) -> dict[str, int]:
        """The number of items of paths that are not there any more, by path as it was given to `build`."""
        with _reading(self.folder):
            roots = self._table.search().select(["root"]).limit(max(len(self), 1)).to_arrow()["root"].value_counts()
        counts = {one["values"]: one["counts"] for one in roots.to_pylist()}
        return {root: counts[root] for root in sorted(counts) if not is_url(root) and not _is_there(Path(root))}

    def _shown(self) -> list[str]:
        return [*SHOWN, MODIFIED] if self.has_times() else [*SHOWN]

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
                rows = self._table.search().where(_one_of("id", some)).select(self._shown()).limit(len(some)).to_arrow()
            found |= {row["id"]: row for row in rows.to_pylist()}
        return [hit_of(found[one], value) for one, value in zip(ids, similarities, strict=True)]


def hit_of(row: Mapping[str, Any], similarity: float) -> Hit:
    """A row of the table."""
    text, media_type, data = row["snippet"] or "", row["media_type"] or "", row["preview"] or b""
    preview = Preview(text, media_type, data, bool(row["is_small"])) if text or data else None
    return Hit(similarity, row["file"], row["line"], row["label"], preview, row.get(MODIFIED))


# ------------------------------------------------------------------------------------------------ build


@one_at_a_time
def _build(
    model: Encoders,
    paths: Sequence[Path],
    drop: Sequence[Path],
    out: Path,
    ingest: Mapping[str, object],
    previews: bool,
) -> Built:
    if drop and not (out / ABOUT).is_file():
        raise DataError(f"there is no index at {out}, so nothing can be dropped from it: correct --out")
    out.mkdir(parents=True, exist_ok=True)
    space = _space_of(model)
    if not (out / ABOUT).is_file():
        if isinstance(model, AlignedModels):
            about = {"modality": ",".join(model), "width": model.width, "model": model.source}
        else:
            about = {"modality": model.modality, "width": model.width_in(space)}
            about |= {"model": str(model.about.get("source", ""))}
        about |= {"format": FORMAT, "space": space, "fingerprint": fingerprint(model), "recall": 1.0}
        write_json(out / ABOUT, about)
    index = Index(out, create=True)
    index.check(model)
    with full_disk_named(out, DataError, "What was written before is kept."):
        if not index.has_times():
            index._table.add_columns({MODIFIED: "cast(NULL as double)"})
        models = list(model.values()) if isinstance(model, AlignedModels) else [model]
        built = _Building(index, models, space, ingest, previews)
        built.drop(drop)
        built.run(paths)
        recall = _optimize(index)
    say_lost(index)
    return Built(len(index), built.added, built.changed, built.removed, len(built.problems), built.first, recall)


def _is_there(path: Path) -> bool:
    """Whether a file, or a folder with something in it, which may be a disk that is not mounted otherwise."""
    try:
        return path.is_file() or any(path.iterdir())
    except OSError:
        return False


def _space_of(model: Encoders) -> Space:
    if isinstance(model, AlignedModels):
        return "aligned"
    return space_of(model)


@dataclass(frozen=True)
class _Known:
    """What the index has of an item."""

    sha256: str
    label: str | None
    modified_s: float | None


class _Building:
    """The walk over the items of some paths."""

    def __init__(
        self, index: Index, models: Sequence[Model], space: Space, ingest: Mapping[str, object], previews: bool
    ) -> None:
        self.index, self.models, self.space, self.ingest, self.previews = index, models, space, ingest, previews
        self.table = index._table
        self.added = self.changed = self.removed = 0
        self.refused: list[tuple[str, str]] = []
        self.touched: dict[str, float | None] = {}
        self._staying = set[str]()  # ids of paths that were not read to their end

    @property
    def problems(self) -> list[str]:
        """A file, or a path, and why it is not in the index."""
        return [f"{file}: {reason}" for file, reason in self.refused]

    @property
    def first(self) -> str:
        """The first problem."""
        return self.problems[0] if self.refused else ""

    def run(self, paths: Sequence[Path]) -> None:
        """Bring the items of these paths up to date, one after the other. Where several models share a space, each
        takes the items that it can read and that none before has taken."""
        for path in paths:
            if is_encoded(path):
                self._take(Partitions(path))
                continue
            if is_url(path):
                raise ConfigError(
                    f"{path} holds no features: encode its items with d2v encode --engine dask --for-index first, and "
                    "index what that writes"
                )
            root = path.resolve()
            known = self._known(root)
            seen, files = set[str](), set[str]()
            before = len(self.refused)
            with Progress("index", None) as progress:
                for model in self.models:
                    for some in _in_parts(self._new(model, root, known, seen, files), WRITTEN_AT_A_TIME):
                        self._write(model, some, known)
                        progress.advance(len(some))
            if len(self.models) > 1:
                self._forget_what_another_read(before, files)
            if len(self.refused) > before and not seen:
                if known:
                    log(f"index: {path} gave no item, so what the index has of it stays")
                continue
            self._write_times(known)
            self._remove(known.keys() - seen - self._staying, root, files | {file for file, _ in self.refused})

    def _take(self, found: Partitions) -> None:
        """Add the rows of partitions that the index has not taken yet."""
        taken, width = Taken(self.index.folder, found.identity), int(self.index.about["width"])
        for path in found.paths:
            found.partition(path).check(self.index.about)
        if taken.is_new:
            known = any(self.table.count_rows(_below(root)) for root in found.roots)
            taken.appends = not found.overlap() and not known and bool(found.roots or not len(self.index))
        if taken.done == len(found.paths):
            log(f"index: {found.folder} is in the index since it was taken")
        with Progress("index", found.rows) as progress:
            for path in found.paths[taken.done :]:
                partition = found.partition(path)
                first = partition.first_id()
                is_there = taken.appends and taken.begun and bool(self.table.count_rows(_one_of("id", [first or ""])))
                taken.begun = True
                taken.write()
                rows = partition.batches(width, self.previews)
                if first and not is_there:
                    self._add(pa.RecordBatchReader.from_batches(_schema(width), rows), taken.appends)
                else:
                    deque(rows, maxlen=0)  # for its problems
                self.refused += partition.problems
                taken.done, taken.begun = taken.done + 1, False
                taken.write()
                progress.advance(partition.file.metadata.num_rows)

    def _add(self, rows: pa.RecordBatchReader, are_new: bool) -> None:
        if are_new:
            before = self.table.count_rows()
            self.table.add(rows)
            self.added += self.table.count_rows() - before
            return
        merge = self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        done = merge.execute(rows)
        self.added += done.num_inserted_rows
        self.changed += done.num_updated_rows

    def _forget_what_another_read(self, first: int, files: set[str]) -> None:
        """Of the problems from `first` on keep one a file that no model could read."""
        left = {file: reason for file, reason in reversed(self.refused[first:]) if file not in files}
        self.refused[first:] = list(reversed(left.items()))

    def drop(self, paths: Sequence[Path]) -> None:
        """Remove the items of these paths; nothing if the index has none of one of them."""
        for path in paths:
            if not self.table.count_rows(_below(path.resolve())):
                raise DataError(f"The index has no items of {path.resolve()}: give --drop a path that it has items of")
        for path in paths:
            below = _below(path.resolve())
            self.removed += self.table.count_rows(below)
            self.table.delete(below)
        if paths:
            forget_taken(self.index.folder)

    def _remove(self, missing: Iterable[str], root: Path, opened: Container[str]) -> None:
        """Remove known items that a walk over a path has not met, also of files that it opened; but not those of an
        archive or a table that was given by itself and is still there, which a folder around it does not open."""
        for ids in _in_parts(sorted(missing), 500):
            rows = self._rows(_one_of("id", ids), ["id", "root", "file"])
            gone = [
                row["id"]
                for row in rows
                if row["root"] == text_of(str(root)) or row["file"] in opened or modified_s_of(row["file"]) is None
            ]
            if gone:
                self.table.delete(_one_of("id", gone))
                self.removed += len(gone)

    def _known(self, root: Path) -> dict[str, _Known]:
        """What the index has of a path, by id."""
        rows = self._rows(_below(root), ["id", "sha256", "label", MODIFIED])
        return {row["id"]: _Known(row["sha256"], row["label"], row[MODIFIED]) for row in rows}

    def _rows(self, where: str, columns: list[str]) -> list[dict[str, Any]]:
        with _reading(self.index.folder):
            rows = self.table.search().where(where).select(columns).limit(max(self.table.count_rows(), 1))
            found: list[dict[str, Any]] = rows.to_arrow().to_pylist()
        return found

    def _new(
        self, model: Model, root: Path, known: Mapping[str, _Known], seen: set[str], files: set[str]
    ) -> Iterator[tuple[dict[str, Any], object]]:
        """(row without vector, raw item) of items that are new or changed; `seen` gets the ids and `files` the files
        of all that can be read."""
        modality = registry.get(model.modality)
        try:
            opened = modality.open_files(root, self.ingest)
        except DataError as error:
            self.refused.append((str(root), str(error)))
            if len(self.models) == 1:
                self._stay(root, known)
            return
        try:
            for item, address in self._items(opened.source, root):
                file = text_of(address)
                name = id_of(file, item.key, item.line)
                if len(self.models) > 1 and (name in seen or (file in files and item.refused)):
                    continue
                if item.data is None or item.refused:
                    self.refused.append((file, item.refused or "it has no content"))
                    if Path(address).is_dir():  # a folder that cannot be read: nothing in it is known to be gone
                        self._staying.update(self._known(Path(address)))
                    continue
                sha256, modified_s = digest_of(item), modified_s_of(address)
                before = known.get(name)
                # a deeper path says no class
                label = before.label if before is not None and item.label is None else item.label
                if before is None or (before.sha256, before.label) != (sha256, label):
                    try:
                        raw = opened.read(item)
                    except DataError as error:
                        self.refused.append((file, str(error)))
                        continue
                    row = {"id": name, "root": text_of(str(root)), "file": file, "line": item.line, "label": label}
                    preview = shown(modality, item) if self.previews else HIDDEN
                    yield row | {"sha256": sha256, MODIFIED: modified_s, **preview}, raw
                elif before.modified_s != modified_s:
                    self.touched[name] = modified_s
                seen.add(name)
                files.add(file)
        except DataError as error:
            self.refused.append((str(root), str(error)))
            self._stay(root, known)

    def _items(self, source: Source, root: Path) -> Iterator[tuple[Item, str]]:
        """Items and their addresses, without the files of the index itself."""
        own = self.index.folder.resolve()
        for item in source.items(0):
            address = item.address or f"{root}/{item.key}"
            if not Path(address).is_relative_to(own):
                yield item, address

    def _stay(self, root: Path, known: Mapping[str, _Known]) -> None:
        """A walk that did not come to its end does not know what is gone."""
        if known:
            log(
                f"index: {root} was not read to its end, so all {len(known):,} items that the index has of it "
                "stay; --drop removes the items of a path that is gone for good"
            )
        self._staying.update(known)

    def _write(self, model: Model, some: Sequence[tuple[dict[str, Any], object]], known: Mapping[str, object]) -> None:
        vectors = self._vectors(model, [raw for _, raw in some])
        rows, outdated = [], []
        for (row, _), vector in zip(some, vectors, strict=True):
            if isinstance(vector, str):
                self.refused.append((row["file"], vector))
                outdated += [row["id"]] if row["id"] in known else []
                continue
            rows.append(row | {"vector": vector})
            self.changed += row["id"] in known
            self.added += row["id"] not in known
        new, again = ([row for row in rows if (row["id"] in known) is changed] for changed in (False, True))
        if new:  # appended: LanceDB looks for the rows of a merge in the whole table
            self.table.add(self._table_of(new))
        if again:
            self.table.merge_insert("id").when_matched_update_all().execute(self._table_of(again))
        if outdated:  # what an item held before is no answer any more
            self.table.delete(_one_of("id", outdated))
            self.removed += len(outdated)

    def _table_of(self, rows: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=_schema(int(self.index.about["width"])))

    def _write_times(self, known: Mapping[str, _Known]) -> None:
        """Of files that were written again with the same content."""
        for names in _in_parts([name for name in self.touched if name in known], 50_000):
            times = pa.array([self.touched[name] for name in names], pa.float64())
            rows = pa.table({"id": pa.array(names, pa.string()), MODIFIED: times})
            self.table.merge_insert("id").when_matched_update_all().execute(rows)
        self.touched.clear()

    def _vectors(self, model: Model, raw: Sequence[object]) -> list[np.ndarray | str]:
        """A vector an item, or why there is none."""
        found: dict[int, np.ndarray | str] = {}
        for numbers in model.batch_limit().by_length([model.tokens_of(one) for one in raw]):
            found |= dict(zip(numbers, self._batch(model, [raw[number] for number in numbers]), strict=True))
        return [found[number] for number in range(len(raw))]

    def _batch(self, model: Model, raw: list[object]) -> list[np.ndarray | str]:
        try:
            features = model.features(model.to_inputs(raw, long=INDEX_LONG), space=self.space)
            for one in features:
                check_finite(one, "the item")
                if not one.any():  # has no direction: LanceDB 0.40 leaves it out of every answer by cosine
                    raise DataError(
                        "its features are all zero, so it is alike to nothing: another encoder may tell more"
                    )
        except DataError as error:
            return [str(error)] if len(raw) == 1 else [one for item in raw for one in self._batch(model, [item])]
        return list(features)


def say_lost(index: Index) -> None:
    """A line where paths that the index has items of are not there."""
    lost = index.lost()
    if lost:
        first = next(iter(lost))
        others = f" and {len(lost) - 1:,} more paths" if len(lost) > 1 else ""
        log(
            f"index: {first}{others} cannot be found, and {sum(lost.values()):,} items of the index are from there. "
            "They stay: mount the disk that they were on, or remove the items of a path with d2v index --drop PATH"
        )


def _optimize(index: Index) -> float:
    """Join small files; above EXACT_ITEMS index the vectors, and measure the recall of that."""
    table, before = index._table, dict(index.about)
    with warnings.catch_warnings(action="ignore"):
        table.optimize(cleanup_older_than=KEPT)
    index.about |= {"recall": 1.0, "probed": 0}
    if len(index) > EXACT_ITEMS:
        if len(index) > OUTGROWN * index.about.get("trained_on", 0):
            from lancedb.index import IvfSq

            table.create_index("vector", config=IvfSq(distance_type="cosine"), replace=True)
            index.about["trained_on"] = len(index)
        index.about |= _measured(index)
        how = f"in {index.about['probed']} parts of its index" if index.about["probed"] else "at all vectors"
        log(
            f"index: of more than {EXACT_ITEMS:,} items the search looks {how}, and finds "
            f"{index.about['recall']:.1%} of the nearest {RECALL_AT}"
        )
    if index.about != before:
        write_json(index.folder / ABOUT, index.about)
    return float(index.about["recall"])


def _measured(index: Index) -> dict[str, float]:
    """The fewest parts that are enough, and the recall with these; 0 parts stand for all vectors."""
    for probed in PROBED:
        index.about["probed"] = probed
        recall = measure_recall(index)
        if recall >= RECALL_WANTED:
            return {"recall": recall, "probed": probed}
    return {"recall": 1.0, "probed": 0}


def measure_recall(index: Index) -> float:
    """Share of the true RECALL_AT nearest items of RECALL_QUERIES items, themselves left out, that the search finds."""
    chosen = np.linspace(0, len(index) - 1, RECALL_QUERIES).astype(int).tolist()
    with _reading(index.folder):
        asked = index._table.take_offsets(chosen).select(["id", "vector"]).to_arrow().to_pylist()
    right = wanted = 0
    for one in asked:
        vector = np.array(one["vector"], np.float32)
        true, found = (
            {row["id"] for row in index._nearest(vector, RECALL_AT + 1, None, exact, ["id", "_distance"])} - {one["id"]}
            for exact in (True, False)
        )
        right, wanted = right + len(true & found), wanted + len(true)
    return right / max(wanted, 1)


# ------------------------------------------------------------------------------------------------ table


def _open_table(folder: Path, width: int, create: bool) -> Any:
    if importlib.util.find_spec("lancedb") is None:
        raise ConfigError(f"an index needs LanceDB, which is not installed: {INSTALL}")
    import lancedb

    with _reading(folder):
        tables = lancedb.connect(str(folder))
        if create and not any(file.is_file() for file in (folder / f"{TABLE}.lance").rglob("*")):
            return tables.create_table(TABLE, schema=_schema(width))
        return tables.open_table(TABLE)


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
    return pa.schema([*FIELDS, pa.field("vector", pa.list_(pa.float32(), width))])


def _below(path: Path | str) -> str:
    """Condition of the items of a file or a folder. Names of files in indexes of before are as they were typed, so
    their `root` is asked too."""
    name, folder = text_of(str(path)), text_of(str(path)).rstrip("/") + "/"
    return f"(root = {quoted(name)} OR file = {quoted(name)} OR starts_with(file, {quoted(folder)}))"


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
