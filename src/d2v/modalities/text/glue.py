"""GLUE tasks (Wang et al. 2019) as they are downloaded: a folder or a zip with train.tsv, dev.tsv and test.tsv.

The test files have no labels, so what is measured is measured on dev.tsv: it becomes the test split (of MNLI
dev_matched.tsv; dev_mismatched.tsv is the split "mismatched"). Rows of the test files are kept as the split
"unlabelled", which no step trains or measures on. Quotes mean nothing in these files. STS-B's similarity is kept as
the text `score`; its class is the score rounded to 0 to 5.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePosixPath
from typing import IO

from d2v.data.sources.archives import DAMAGE, zip_harm
from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.listing import open_file
from d2v.data.sources.locations import Location
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError

SPLITS = {
    "train.tsv": "train",
    "dev.tsv": "test",
    "dev_matched.tsv": "test",
    "dev_mismatched.tsv": "mismatched",
    "test.tsv": "unlabelled",
    "test_matched.tsv": "unlabelled",
    "test_mismatched.tsv": "unlabelled",
}
"""Files of a task, in the order they are read, and the split of each."""
FIRST_COLUMNS = ("sentence1", "question1", "#1 String", "question", "sentence")
SECOND_COLUMNS = ("sentence2", "question2", "#2 String")
LABEL_COLUMNS = ("gold_label", "label", "Quality", "is_duplicate")
COLA_HEADER = ["source", "label", "star", "sentence"]
SCORES = tuple("012345")

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
Files = dict[str, Opener]
"""Files of a task: name in SPLITS -> how to open it."""


def find_task(location: Location) -> Files | None:
    """The files of the task in a folder or a zip; None if there is none.

    Raises:
        DataError: there are several.
    """
    is_zip = len(location.files) == 1 and location.files[0].name.lower().endswith(".zip")
    paths = _zip_names(location) if is_zip else {file.key: _file_opener(location, file.path) for file in location.files}
    folders: dict[str, Files] = {}
    for path, opener in paths.items():
        parent, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
        if name in SPLITS:
            folders.setdefault(parent, {})[name] = opener
    tasks = {folder: files for folder, files in folders.items() if len({SPLITS[name] for name in files}) >= 2}
    if len(tasks) > 1:
        raise DataError(
            f"{location.given} holds several GLUE tasks: point text.ingest.source to one of the folders "
            f"{', '.join(sorted(tasks))} in it."
        )
    return next(iter(tasks.values()), None)


def _zip_names(location: Location) -> Files:
    path = location.files[0].path
    try:
        with open_file(location.fs, path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (*DAMAGE, ValueError):
        return {}  # opening it as an archive says what is wrong

    def opener(name: str) -> Opener:
        @contextmanager
        def opened() -> Iterator[IO[bytes]]:
            with open_file(location.fs, path) as file, zipfile.ZipFile(file) as archive:
                if harm := zip_harm(archive.getinfo(name)):
                    raise zipfile.BadZipFile(f"{name} is not read: {harm}")
                with archive.open(name) as stream:
                    yield stream

        return opened

    return {name: opener(name) for name in names}


def _file_opener(location: Location, path: str) -> Opener:
    return lambda: open_file(location.fs, path)


def glue_source(location: Location, files: Files, wanted: Wanted) -> Source:
    """All rows of a task, file by file.

    Raises:
        DataError: a file has no columns that GLUE's have.
    """
    tables = [_Table(name, files[name], wanted) for name in SPLITS if name in files]
    names = next((table.class_names for table in tables if table.class_names), None)

    def items(start: int) -> Iterator[Item]:
        read = 0
        for table in tables:
            for item in table.items():
                if read >= start:
                    yield item
                read += 1

    return Source(f"GLUE task {location.given}", location.fingerprint, None, items, names)


class _Table:
    """One file of a task."""

    def __init__(self, name: str, opener: Opener, wanted: Wanted) -> None:
        self.name, self.opener, self.wanted = name, opener, wanted
        self.split = SPLITS[name]
        lines = self._lines()
        first = next(lines, [""])
        self.has_header = not (len(first) == len(COLA_HEADER) and first[1] in ("0", "1"))  # CoLA has none
        self.columns = first if self.has_header else COLA_HEADER
        self.text = self._column(FIRST_COLUMNS)
        if self.text is None:
            raise DataError(
                f"{name} has the columns {', '.join(first)}, not those of a GLUE task: give the original files, or set "
                "text.ingest.format to what it is."
            )
        self.second = self._column(("sentence",) if self.columns[self.text] == "question" else SECOND_COLUMNS)
        self.label, self.score = self._column(LABEL_COLUMNS), self._column(("score",))
        row = next(lines, []) if self.has_header else first
        lines.close()
        self.names = self._names(row)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes by the number that stands for each; None where the labels are words, or there are none."""
        return SCORES if self.score is not None else self.names

    def _column(self, names: Sequence[str]) -> int | None:
        return next((self.columns.index(name) for name in names if name in self.columns), None)

    def _names(self, row: Sequence[str]) -> tuple[str, ...] | None:
        """Readable names of the labels 0 and 1, which differ from task to task."""
        if self.label is None or self.label >= len(row) or row[self.label] not in ("0", "1"):
            return None
        by_column = {"Quality": ("not_equivalent", "equivalent"), "is_duplicate": ("not_duplicate", "duplicate")}
        if (column := self.columns[self.label]) in by_column:
            return by_column[column]
        if not self.has_header:
            return "unacceptable", "acceptable"
        return ("negative", "positive") if self.second is None else ("not_entailment", "entailment")

    def _lines(self) -> Generator[list[str], None, None]:
        """Cells of each line."""
        with self.opener() as file, io.BufferedReader(file, 2**18) as stream:  # type: ignore[type-var]
            limit = self.wanted.max_item_bytes
            while line := stream.readline(limit + 1):
                text = line.decode("utf-8-sig", errors="surrogateescape").rstrip("\r\n")
                yield text.split("\t")

    def items(self) -> Iterator[Item]:
        """All rows as items, sentences of a pair in `data` and in `texts["second"]`."""
        for row, cells in enumerate(self._lines(), 0 if self.has_header else 1):
            if row:
                yield self._item(f"{PurePosixPath(self.name).stem}/{row - 1:06d}", cells)

    def _item(self, key: str, cells: Sequence[str]) -> Item:
        if len(cells) != len(self.columns) or self.text is None:
            reason = f"it has {len(cells)} columns, not the {len(self.columns)} of its file"
            return Item(key, None, split=self.split, refused=reason)
        if self.score is not None and not re.fullmatch(r"\d+(\.\d+)?", cells[self.score]):
            return Item(key, None, split=self.split, refused=f"its score is {cells[self.score]!r}, not a number")
        data = cells[self.text].encode("utf-8", "surrogateescape")
        texts = {} if self.second is None else {"second": cells[self.second]}
        label = None if self.label is None else cells[self.label]
        if self.names and label in ("0", "1"):
            label = self.names[int(label)]
        if self.score is not None:
            texts["score"] = cells[self.score]
            label = SCORES[min(max(int(float(cells[self.score]) + 0.5), 0), 5)]
        return Item(key, data, label, self.split, too_large(len(data), self.wanted), texts)
