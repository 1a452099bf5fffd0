"""Tables beside the items: which files they name, and what they say of them.

A table names the files in one column, relative to itself or to the root of the tree, and in others what there is to
say: the class, the split, the group and texts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from d2v.data.lines import decoded, lines_of, single_spaced
from d2v.data.sources.archives import tar_shards_source
from d2v.data.sources.columns import Columns, first_column
from d2v.data.sources.delimited import find_delimiter, named_rows, rows_of, text_lines
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.layout import Annotation, Annotator, Folders, Wanted, split_path
from d2v.data.sources.locations import Location, packed_as
from d2v.data.sources.source import Source
from d2v.data.sources.split_names import kind_of
from d2v.errors import DataError

TABLE = re.compile(r"\.(csv|tsv|jsonl|ndjson)$|(^|/)(metadata|labels|annotations)\.parquet$", re.IGNORECASE)
"""Files that may be tables."""
MEANT = re.compile(
    r"(^|/)(manifest|metadata|(train|valid|validation|dev|test|validated)(?=\.tsv))\.(csv|tsv|jsonl|parquet)$"
)
"""Tables whose names say that they speak of the files beside them; other ones are left alone if they do not."""
SAMPLE = re.compile(r"\.(cls|json|txt)$", re.IGNORECASE)
"""Files that speak of the one item of the same name, as in WebDataset's archives: its class, fields, transcript."""
SAMPLE_BYTES = 2**20
"""Larger files are not of this kind."""
LJSPEECH_NAMES = ("path", "text_as_written", "text")
"""Columns of its metadata.csv, which has no header."""
FOLD_NAMES = ("fold",)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Row:
    """One row of a table: the file as the table names it, the folder of the table, and what is said."""

    table: str
    file: Folders
    folder: Folders
    said: Annotation

    def fit(self, path: Folders) -> tuple[bool, int]:
        """How well a path is the file of this row: whether it is so from the table's folder, and how many parts agree;
        0 where they do not agree as far as both go."""
        parts = min(len(self.file), len(path))
        return self.folder + self.file == path, parts if self.file[-parts:] == path[-parts:] else 0


class SideTables:
    """All rows of all tables, by the last part of the file.

    Args:
        sides: content of the files beside the items by their paths in the tree; those that are not tables are passed
            over.
        suffixes: endings of the items, which tables may leave out.
        columns: their names.

    Raises:
        DataError: a table that is damaged, or one that is meant for the items and names none.
    """

    def __init__(self, sides: Mapping[str, bytes], suffixes: frozenset[str], columns: Columns) -> None:
        self.suffixes, self.columns = suffixes, columns
        self.rows: dict[str, list[_Row]] = {}
        self.left_alone: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.several, self.names = 0, set[str]()
        self.samples: dict[str, Annotation] = {}
        for path, content in sides.items() if columns.reads_beside else ():
            if TABLE.search(path):
                self._add(path, content)
            elif (sample := SAMPLE.search(path)) and len(content) <= SAMPLE_BYTES:
                self._add_sample(sample_key(path), sample[1].lower(), content.decode("utf-8-sig", "replace"))
        if self.rows:
            columns.check(sorted(self.names), _shown(set(self.counts)))
        self.covered = {row.folder for rows in self.rows.values() for row in rows if row.said.label is not None}

    def _add(self, path: str, content: bytes) -> None:
        try:
            for row in self._read(path, content):
                self.rows.setdefault(row.file[-1], []).append(row)
                self.counts[path] = self.counts.get(path, 0) + 1
        except DataError as reason:
            if MEANT.search(path) or any(self.columns.chosen.values()):
                raise
            self.left_alone[path] = str(reason)

    def _add_sample(self, key: str, kind: str, text: str) -> None:
        """A file of one item; what a class file says wins over fields."""
        before = self.samples.get(key, Annotation())
        if kind == "cls":
            found = replace(before, label=label_of(text) or "")
        elif kind == "txt":
            found = replace(before, texts={"transcript": single_spaced(text), **before.texts})
            found = found if "transcript" in self.columns.texts else before
        else:
            try:
                record = {str(name).lower(): value for name, value in json.loads(text).items()}
            except (ValueError, AttributeError, RecursionError):
                return
            read = self._annotation(record, "", None)
            label = before.label if before.label is not None else read.label
            found = Annotation(label, read.split, {**before.texts, **read.texts}, read.group, read.fold)
        self.samples[key] = found

    def __bool__(self) -> bool:
        """Whether they say anything of any file."""
        return bool(self.rows or self.samples)

    def __call__(self, path: str) -> Annotation | None:
        """What the tables say of a file; of one that no row names, that its folders are not a class, where rows below
        the same folder tell classes."""
        parts = split_path(without_suffix(path, self.suffixes))
        row = self._row(parts)
        if row:
            return row.said
        if self.samples and (sample := self.samples.get(sample_key(path))):
            return sample
        if any(parts[: len(folder)] == folder for folder in self.covered):
            return Annotation(label="")
        return None

    def _row(self, parts: Folders) -> _Row | None:
        fits = [(row.fit(parts), row) for row in self.rows.get(parts[-1], ())]
        best = max(fits, key=lambda fit: (fit[0], bool(fit[1].said.split)), default=None)
        return best[1] if best and best[0][1] else None

    def remarks(self, paths: Sequence[str]) -> list[str]:
        """Rows that meet no file, and files that no row names."""
        if not self.rows:
            return []
        met: set[int] = set()
        without = 0
        for path in paths:
            row = self._row(split_path(without_suffix(path, self.suffixes)))
            without += row is None
            met |= {id(row)} if row else set()
        lost = [row for rows in self.rows.values() for row in rows if id(row) not in met]
        remarks = []
        if lost:
            first = lost[0]
            remarks.append(
                f"{len(lost):,} rows of {_shown({row.table for row in lost})} name no file that is here, such as "
                f"{'/'.join(first.file)}: paths are relative to the table or to the root"
            )
        if without:
            remarks.append(f"{without:,} files have no row in {_shown(set(self.counts))}")
        if self.several:
            remarks.append(
                f"{self.several:,} rows list several labels, and an item is of one class: they are taken for none"
            )
        return remarks

    # ---------------------------------------------------------------------------------------- reading

    def _read(self, path: str, content: bytes) -> Iterator[_Row]:
        folder = split_path(path)[:-1]
        records = list(self._records(path, content))
        folds = [int(found) for _, record in records if (found := _fold(record)) is not None]
        for _, record in records:
            file = _text(record, self.columns.files)
            if file:
                bare = split_path(without_suffix(file.replace("\\", "/"), self.suffixes))
                if parts := tuple(part for part in bare if part != ".."):
                    yield _Row(path, parts, folder, self._annotation(record, path, max(folds, default=None)))

    def _annotation(self, record: Record, path: str, last_fold: int | None) -> Annotation:
        split, fold = _text(record, self.columns.splits), _fold(record)
        if split is None and fold is not None and last_fold is not None:
            split = "test" if int(fold) == last_fold else "train"
        elif split is None:
            split = kind_of(PurePosixPath(path).stem)
        texts = {name: text for name, names in self.columns.texts.items() if (text := _text(record, names))}
        return Annotation(self._label(record), split, texts, _text(record, self.columns.groups), fold)

    def _label(self, record: Record) -> str | None:
        column = first_column(self.columns.labels, record)
        if column is None:
            return None
        try:
            return label_of(record[column]) or ""
        except SeveralLabels:
            self.several += 1
            return ""

    def _records(self, path: str, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows by their columns, whose names are in lower case."""
        if path.lower().endswith(".parquet"):
            yield from self._checked(path, _parquet_records(path, content))
            return
        try:
            text = decoded(content)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is no UTF-8 text ({error}): save it as UTF-8, or remove it to do without."
            ) from None
        if path.lower().endswith((".jsonl", ".ndjson")):
            yield from self._checked(path, json_records(path, lines_of(text)))
        elif not is_manifest_text(path, text):
            yield from self._delimited(path, text)

    def _delimited(self, path: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
        delimiter, skipped = ("\t", 0) if path.lower().endswith(".tsv") else find_delimiter(text, self.columns.known)

        def lines() -> Iterator[str]:
            return (line if number >= skipped else "\n" for number, line in enumerate(text_lines(text)))

        rows = rows_of(lines, delimiter, path)
        names: Sequence[str] = [name.strip().lower() for name in next((row for _, row in rows), [])]
        if first_column(self.columns.files, names) is None:
            if delimiter != "|":
                raise self._no_files(path, names)
            names, rows = LJSPEECH_NAMES, rows_of(lines, delimiter, path)
        self.names.update(names)
        yield from named_rows(rows, path, names)

    def _checked(
        self, path: str, records: Iterator[tuple[int, dict[str, Any]]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, (line, record) in enumerate(records):
            if not place and first_column(self.columns.files, record) is None:
                raise self._no_files(path, list(record))
            self.names.update(record)
            yield line, record

    def _no_files(self, path: str, names: Sequence[str]) -> DataError:
        return DataError(
            f"{path} has the columns {', '.join(names)}, none of which names the files: call it "
            f"{self.columns.files[0]}, relative to the table, or remove the table to do without."
        )


def sample_key(path: str) -> str:
    """What files of one item have in common: their path up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def without_suffix(path: str, suffixes: frozenset[str]) -> str:
    """A path without the ending of an item, for tables often leave it out."""
    ending = next((suffix for suffix in suffixes if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(ending)] if ending and len(ending) < len(PurePosixPath(path).name) else path


def is_manifest_text(path: str, text: str) -> bool:
    """Whether a table is empty or one of fairseq's, whose first line is a folder."""
    first = lines_of(text[: 2**16])[:1]
    return not first or (
        path.endswith(".tsv") and kind_of(PurePosixPath(path).stem) is not None and "\t" not in first[0]
    )


def json_records(path: str, lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of JSON lines.

    Raises:
        DataError: a line that is none.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, {name.lower(): value for name, value in json.loads(line).items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f"Line {number} of {path} is no JSON object ({error}): mend it, or remove the table to do without."
            ) from None


def _parquet_records(path: str, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): mend it, or remove it to do without.") from error
    yield from ((number, {name.lower(): value for name, value in row.items()}) for number, row in enumerate(rows))


def _text(record: Record, names: Sequence[str]) -> str | None:
    """The first of the columns that is there, as words with single spaces, of a list with commas between."""
    column = first_column(names, record)
    if column is None:
        return None
    value = record[column]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "" if value is None or value != value else single_spaced(str(value))  # NaN is not itself


def _fold(record: Record) -> str | None:
    """The number of a row's fold, if its table has folds."""
    text = _text(record, FOLD_NAMES)
    found = re.search(r"\d+", text) if text else None
    return found[0] if found else None


def _shown(tables: set[str], most: int = 3) -> str:
    names = sorted(tables)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more tables" if len(names) > most else "")


def tree_source(
    openers: Mapping[str, Callable[..., Source]], kind: str, location: Location, wanted: Wanted, annotator: Annotator
) -> Source:
    """A folder or an archive, or several tar archives, with what lies beside the items.

    Args:
        openers: format -> what opens one location of it.
        kind: the format.
        location: the files.
        wanted: the modality's words; in tar archives files of one item each are side files too.
        annotator: what side files say.
    """
    if kind != "tar":
        return openers[kind](location, wanted, annotator)
    names = f"(?:{wanted.side_names.pattern})|" if wanted.side_names else ""
    wanted = replace(wanted, side_names=re.compile(names + SAMPLE.pattern, re.IGNORECASE))
    archives = tuple(file for file in location.files if packed_as(file.name) == "tar") or location.files
    if len(archives) == 1:
        return openers[kind](location, wanted, annotator)
    return tar_shards_source(replace(location, files=archives), wanted, annotator)
