"""From a file of text or JSON lines to documents, one after the other and in constant memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa

from d2v.data.lines import AsUtf8, byte_lines, decoded, encoding_of
from d2v.data.sources.archives import DAMAGE, Unpacking
from d2v.data.sources.columns import LABEL_NAMES, Columns, first_column
from d2v.data.sources.delimited import (
    RowTooLongError,
    find_delimiter,
    plain_rows,
    quoted_rows,
    reads_as_quoted,
    whole_lines,
)
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.layout import Role, Wanted, too_large
from d2v.errors import DataError
from d2v.modalities.text.config import TextIngestConfig

FIRST_NAMES = (
    *("text", "content", "document", "sentence", "article", "sentence1", "question1", "premise", "question", "review"),
    *("tweet", "comment", "comment_text", "message", "body", "headline", "description", "title"),
)
SECOND_NAMES = ("sentence2", "question2", "hypothesis", "second")
CLASS_NAMES = (*LABEL_NAMES, "category", "sentiment")
"""Names of fields and columns, the likeliest first."""
HEAD_BYTES = 2**16
"""Of a file, to find what it is, and of a table, its delimiter and whether its cells are quoted."""
PAPERS = re.compile(r"(readme|licen[cs]e|copying|(sha\d+|md5|check)sums?)(\..*)?", re.IGNORECASE)
JSON_SPACE = " \t\r\n"
SPACE = re.compile(f"[{JSON_SPACE}]*")
JSON_FILE = re.compile(r"\.json(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
"""Names of files that hold one array of objects, or JSON lines."""
NO_TEXTS = {
    b"%PDF-": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an office document",
    b"PAR1": "a Parquet table",
}
"""First bytes of files that are no texts, though lines of them may look like some."""
SHOWN_CHARACTERS = 20
"""Of a cell, in messages."""
MOST_NULS = 1 / 8
"""Share of NUL bytes in text; more of them are UTF-16 without a byte-order mark, or no text."""
UNPACKED_DAMAGE = (*DAMAGE, UnicodeError)
TOO_DEEP = "its JSON is nested deeper than Python reads: save the text in a field of a flat object"
NO_MEMORY = "its JSON needs more memory than there is"


@dataclass(frozen=True, kw_only=True)
class TextFiles(Wanted):
    """Which files are documents: not the README and licence beside them, nor tables and pages.

    Attributes:
        bare_lines: lines and paragraphs of text files come without the end of their last line, which the corpus keeps.
    """

    bare_lines: bool = False

    def has_suffix(self, name: str) -> bool:
        """Whether a file is named like a text and is no paper."""
        return super().has_suffix(name) and not PAPERS.fullmatch(PurePosixPath(name).name)

    def role(self, path: str, annotated: bool) -> Role:
        """What a file is, from its path in the tree."""
        return "paper" if PAPERS.fullmatch(PurePosixPath(path).name) else super().role(path, annotated)


class Document(NamedTuple):
    """A document of a file.

    Attributes:
        place: behind the file's key: "" for the whole file, else "#" and the line it begins in.
        data: its bytes; None if it was refused.
        label: what the file says its class is, else None.
        second: the second sentence of a pair, else None.
        refused: why it cannot be read.
        split: what its split column says, else None.
        group: what it must share its split with, else None.
    """

    place: str
    data: bytes | None
    label: str | None = None
    second: str | None = None
    refused: str | None = None
    split: str | None = None
    group: str | None = None


Kind = Literal["text", "jsonl", "csv"]


def read_documents(
    file: IO[bytes], config: TextIngestConfig, wanted: TextFiles, kind: Kind, name: str = ""
) -> Iterator[Document]:
    """Documents of an opened file, which may be packed by gzip, bzip2, xz or Zstandard.

    JSON lines, elements of a JSON array and rows of CSV are one document each; of other files, `config.document` says
    what one is. Where the file is damaged or no text, one refused document says so and is the last.

    Args:
        file: opened.
        config: names of columns, and what a document is.
        wanted: the modality's words.
        kind: of the file.
        name: of the file, for messages.

    Raises:
        DataError: a table without a column of texts, or with a quotation mark that is not closed.
        OSError: the disk or the network failed.
    """
    line = 0
    try:
        with unpacked(file) as stream:
            as_whole = config.document == "file" and kind == "text"
            if refused := no_text(stream.peek(HEAD_BYTES)[:HEAD_BYTES], as_whole):
                yield Document("", None, refused=refused)
                return
            if kind == "csv":
                yield from _rows(stream, config, wanted, name)
                return
            if as_whole:
                yield _whole(stream, wanted)
                return
            is_array = kind == "jsonl" and JSON_FILE.search(name) and _is_whole_json(stream)
            cut = (
                _elements
                if is_array
                else _objects
                if kind == "jsonl"
                else _paragraphs
                if config.document == "paragraph"
                else _lines
            )
            for line, document in cut(stream, config, wanted):
                yield document._replace(place=f"#{line}")
    except RowTooLongError as error:
        reason = f"the row is longer than text.ingest.max_item_bytes = {wanted.max_item_bytes:,}"
        yield Document(f"#{error.line}", None, refused=f"{reason}, and the rows behind it are not read")
    except (*UNPACKED_DAMAGE, OSError) as error:
        if not isinstance(error, UNPACKED_DAMAGE) and error.errno is not None:
            raise  # decompressors raise OSErrors of their own, without a number
        yield Document(f"#{line + 1}", None, refused=f"the file is damaged or cut off behind line {line:,}: {error}")


def unpacked(file: IO[bytes]) -> io.BufferedReader:
    """The stream, through its decompressor if its first bytes name one."""
    head = file.read(6)
    file.seek(0)
    stream: Any = file
    if head.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=file)
    elif head.startswith(b"BZh"):
        stream = bz2.BZ2File(file)
    elif head.startswith(b"\xfd7zXZ\x00"):
        stream = lzma.LZMAFile(file)  # noqa: SIM115  # the caller closes what is returned
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        stream = pa.CompressedInputStream(pa.PythonFile(file), "zstd")
    raw: Any = stream if stream is file else Unpacking(stream, file)
    return io.BufferedReader(raw, 2**18)


def no_text(head: bytes, as_whole: bool = False) -> str | None:
    """Why a file must not be cut into lines, if its first bytes say so.

    Args:
        head: its beginning, unpacked.
        as_whole: whether it is to be one document, whose bytes are all checked later.
    """
    found = next((name for magic, name in NO_TEXTS.items() if head.startswith(magic)), None)
    if found:
        return f"it is {found}, not a text: save it as plain text"
    if as_whole or encoding_of(head)[0] != "utf-8" or b"\0" not in head:
        return None
    if head.count(b"\0") > MOST_NULS * len(head):
        return "it is binary data, or UTF-16 without its byte-order mark: save a text as UTF-8"
    try:
        head[: len(head) - 3].decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 6:  # the last character may be cut
            return "it is not text but binary data: it holds NUL bytes and is no valid UTF-8"
    return None


def _whole(stream: IO[bytes], wanted: TextFiles) -> Document:
    data = stream.read(wanted.max_item_bytes + 1)
    refused = too_large(len(data), wanted)
    return Document("", None if refused else data, refused=refused)


def _lines(stream: io.BufferedReader, config: TextIngestConfig, wanted: TextFiles) -> Iterator[tuple[int, Document]]:
    for number, line, refused in _numbered(stream, wanted):
        if refused or line.strip():
            content = _bare(line) if wanted.bare_lines else line
            yield number, Document("", None if refused else content, refused=refused)


def _bare(line: bytes) -> bytes:
    """A line, or several, without the end of the last."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _paragraphs(
    stream: io.BufferedReader, config: TextIngestConfig, wanted: TextFiles
) -> Iterator[tuple[int, Document]]:
    """Runs of lines that are not blank."""
    lines: list[bytes] = []
    first = size = 0
    reason: str | None = None

    def paragraph() -> tuple[int, Document]:
        whole = b"".join(lines)
        whole = _bare(whole) if wanted.bare_lines else whole
        return first, Document("", None if reason else whole, refused=reason)

    for number, line, refused in _numbered(stream, wanted):
        if line.strip() or refused:
            first = first or number
            size += len(line)
            reason = reason or refused or too_large(size, wanted)
            lines = [] if reason else [*lines, line]
        elif first:
            yield paragraph()
            lines, first, size, reason = [], 0, 0, None
    if first:
        yield paragraph()


def _objects(stream: io.BufferedReader, config: TextIngestConfig, wanted: TextFiles) -> Iterator[tuple[int, Document]]:
    columns = columns_of(config)
    for number, line, refused in _numbered(stream, wanted):
        if refused:
            yield number, Document("", None, refused=refused)
        elif line.strip():
            yield number, _from_json(line, columns)


def _is_whole_json(stream: io.BufferedReader) -> bool:
    """Whether a file holds one value over all its lines: an array, or an object that its first line does not end."""
    head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    encoding, mark = encoding_of(head)
    text = head[mark:].decode(encoding, "replace").lstrip()
    first = text.partition("\n")[0]
    try:
        return text.startswith("[") or not isinstance(json.loads(first), dict)
    except RecursionError:
        return False
    except ValueError:
        return len(first) < len(text)


def _elements(stream: io.BufferedReader, config: TextIngestConfig, wanted: TextFiles) -> Iterator[tuple[int, Document]]:
    """Elements of a JSON array, whose text is held in memory; their numbers from 1."""
    data = stream.read(wanted.max_item_bytes + 1)
    if refused := too_large(len(data), wanted):
        yield 1, Document("", None, refused=f"{refused}: save the array as JSON lines, which are read one by one")
        return
    try:
        text = decoded(data).strip(JSON_SPACE)
        if not text.startswith("["):
            found = json.loads(text)
            kind = "object" if isinstance(found, dict) else type(found).__name__
            reason = f"the file is one JSON {kind}: save what it holds as an array or as JSON lines"
            yield 1, Document("", None, refused=reason)
            return
        for _ in array_elements(text):  # a damaged array is none of its elements
            pass
    except ValueError as error:
        yield 1, Document("", None, refused=f"the file is no JSON ({error}): mend it")
        return
    except (RecursionError, MemoryError) as error:
        yield 1, Document("", None, refused=TOO_DEEP if isinstance(error, RecursionError) else NO_MEMORY)
        return
    columns = columns_of(config)
    yield from ((number, _from_record(record, columns)) for number, record in enumerate(array_elements(text), 1))


def array_elements(text: str) -> Iterator[Any]:
    """Elements of a JSON array, one parsed at a time: all at once take many times the text's memory.

    Args:
        text: that begins with the array's bracket.

    Raises:
        ValueError: it is no JSON.
    """
    decoder, place = json.JSONDecoder(), _behind_space(text, 1)
    if text[place : place + 1] != "]":
        while True:
            element, place = decoder.raw_decode(text, place)
            yield element
            place = _behind_space(text, place)
            if text[place : place + 1] != ",":
                break
            place = _behind_space(text, place + 1)
    if text[place:] != "]":
        raise json.JSONDecodeError("Expecting ',' or the array's end", text, place)


def _behind_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return found.end() if found else place


def _from_json(line: bytes, columns: Columns) -> Document:
    try:
        return _from_record(json.loads(line.decode("utf-8-sig")), columns)
    except ValueError as error:
        return Document("", None, refused=f"it is no JSON ({error}): JSON lines have one object in each line")
    except (RecursionError, MemoryError) as error:
        return Document("", None, refused=TOO_DEEP if isinstance(error, RecursionError) else NO_MEMORY)


def _from_record(record: Any, columns: Columns) -> Document:
    if isinstance(record, str):
        return Document("", record.encode("utf-8", "surrogatepass"))
    if not isinstance(record, dict):
        return Document("", None, refused=f"it is a JSON {type(record).__name__}, not an object with a text")
    text = _field(record, columns.texts["text"])
    try:
        label = label_of(_field(record, columns.labels))
    except SeveralLabels as reason:
        return Document(
            "", None, refused=f"{reason}: set text.ingest.columns.label to a field of one, or to '' for none"
        )
    second = _field(record, columns.texts["second"])
    if not isinstance(text, str):
        return Document(
            "", None, refused=f"none of its fields {', '.join(record)} is a text: set text.ingest.text_field"
        )
    return Document(
        "",
        text.encode("utf-8", "surrogatepass"),
        label,
        second if isinstance(second, str) else None,
        split=_said(record, columns.splits),
        group=_said(record, columns.groups),
    )


def columns_of(config: TextIngestConfig) -> Columns:
    """Names of columns and fields, those of the recipe first."""
    texts = (config.text_field,) if config.text_field else FIRST_NAMES
    labels = (config.label_field,) if config.label_field else CLASS_NAMES
    names = Columns(labels, {"text": texts, "second": SECOND_NAMES}, strings=True, files=())
    return names.choose(config.columns.model_dump())


def _rows(stream: io.BufferedReader, config: TextIngestConfig, wanted: TextFiles, name: str) -> Iterator[Document]:
    """Rows of CSV or of its relatives."""
    encoding, mark = encoding_of(stream.peek(4))
    head = stream.peek(HEAD_BYTES)[mark:HEAD_BYTES].decode(encoding, "replace")
    columns = columns_of(config)
    is_tsv = name.lower().partition(".tsv")[1] or name.lower().partition(".tab")[1]
    delimiter, skipped = ("\t", 0) if is_tsv else find_delimiter(head, columns.known)
    delimiter = config.delimiter or delimiter

    def lines() -> Iterator[str]:
        plain = stream if encoding == "utf-8" else AsUtf8(stream, encoding, "surrogateescape")
        for number, (content, size) in enumerate(byte_lines(plain, wanted.max_item_bytes)):
            if size > wanted.max_item_bytes:
                raise RowTooLongError(number + 1)
            line = content.decode("utf-8", "surrogateescape")
            yield "\n" if number < skipped else line.removeprefix("\ufeff") if not number else line

    is_quoted = delimiter in ",;" or reads_as_quoted(whole_lines(head), delimiter)
    rows = quoted_rows(lines(), delimiter, name, wanted.max_item_bytes) if is_quoted else plain_rows(lines(), delimiter)
    first = next(rows, None)
    if first is None:
        return
    known = {cell.strip().lower() for cell in first[1]} & columns.known
    has_header = bool(known) if config.header is None else config.header
    names = [cell.strip() for cell in first[1]] if has_header else [str(n) for n in range(1, len(first[1]) + 1)]
    columns.check(names, name)
    if first_column(columns.texts["text"], names) is None:
        raise DataError(
            f"{name} has the columns {', '.join(names)}{_first_row(first[1], has_header)}, and none is known to hold "
            "texts: set text.ingest.columns.text to the name of one, or to its number and text.ingest.header=false "
            "where the first row is no header."
        )
    places = _Places.of(columns, names)
    for line, cells in rows if has_header else chain([first], rows):
        yield _of_row(cells, places, wanted)._replace(place=f"#{line}")


def _first_row(cells: Sequence[str], has_header: bool) -> str:
    """What to say of the first row of a table whose columns have no names."""
    return "" if has_header else f" (first row: {', '.join(cell[:SHOWN_CHARACTERS] for cell in cells)})"


class _Places(NamedTuple):
    """Where a row has what: numbers of cells, None for columns that are not there."""

    width: int
    text: int | None
    second: int | None
    label: int | None
    split: int | None
    group: int | None

    @staticmethod
    def of(columns: Columns, names: Sequence[str]) -> _Places:
        kinds = (columns.texts["text"], columns.texts["second"], columns.labels, columns.splits, columns.groups)
        found = (first_column(kind, names) for kind in kinds)
        return _Places(len(names), *(None if column is None else names.index(column) for column in found))


def _of_row(cells: Sequence[str], places: _Places, wanted: TextFiles) -> Document:
    if any(cell.strip() for cell in cells[places.width :]):
        reason = f"it has {len(cells)} cells, and the table {places.width} columns: quote cells with the delimiter"
        return Document("", None, refused=reason)
    text, second, label, split, group = (
        cells[place] if place is not None and place < len(cells) else None for place in places[1:]
    )
    data = (text or "").encode("utf-8", "surrogateescape")
    refused = too_large(len(data), wanted) or ("no text in this row" if text is None else None)
    return Document("", None if refused else data, label_of(label), second, refused, split, group)


def _said(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    value = _field(record, names)
    return None if value is None else str(value)


def _field(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of the fields that has a value, in whatever case."""
    if found := next((name for name in names if record.get(name) is not None), None):
        return record[found]
    lower = {str(name).lower(): value for name, value in record.items() if value is not None}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _numbered(stream: io.BufferedReader, wanted: TextFiles) -> Iterator[tuple[int, bytes, str | None]]:
    """Lines with their end as UTF-8 and their numbers from 1; one that is too long is refused and not held."""
    encoding, _ = encoding_of(stream.peek(4))
    # line ends of wider characters are not those of bytes
    plain = stream if encoding == "utf-8" else AsUtf8(stream, encoding[:-3])
    limit = wanted.max_item_bytes
    for number, (line, size) in enumerate(byte_lines(plain, limit), 1):
        yield (number, b"", too_large(size, wanted)) if size > limit else (number, line, None)
