"""From a file of text or JSON lines to documents, one after the other and in constant memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import pyarrow as pa

from d2v.data.lines import byte_lines, encoding_of
from d2v.data.sources.archives import DAMAGE
from d2v.data.sources.columns import LABEL_NAMES
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.layout import Wanted, too_large
from d2v.modalities.text.config import TextIngestConfig

FIRST_NAMES = ("text", "content", "document", "sentence", "article", "sentence1", "question1", "premise", "question")
SECOND_NAMES = ("sentence2", "question2", "hypothesis", "second")
CLASS_NAMES = (*LABEL_NAMES, "category")
"""Names of fields and columns, the likeliest first."""
UNPACKED_DAMAGE = (*DAMAGE, UnicodeError)


class Document(NamedTuple):
    """A document of a file.

    Attributes:
        place: behind the file's key: "" for the whole file, else "#" and the line it begins in.
        data: its bytes; None if it was refused.
        label: what the file says its class is, else None.
        second: the second sentence of a pair, else None.
        refused: why it cannot be read.
    """

    place: str
    data: bytes | None
    label: str | None = None
    second: str | None = None
    refused: str | None = None


def read_documents(file: IO[bytes], config: TextIngestConfig, wanted: Wanted, is_jsonl: bool) -> Iterator[Document]:
    """Documents of an opened file, which may be packed by gzip, bzip2, xz or Zstandard.

    JSON lines are one document each; of other files, `config.document` says what one is. Where the file is damaged, one
    refused document says so and is the last.

    Raises:
        OSError: the disk or the network failed.
    """
    line = 0
    try:
        with unpacked(file) as stream:
            if config.document == "file" and not is_jsonl:
                yield _whole(stream, wanted)
                return
            cut = _objects if is_jsonl else _paragraphs if config.document == "paragraph" else _lines
            for line, document in cut(stream, config, wanted):
                yield document._replace(place=f"#{line}")
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
    return io.BufferedReader(stream, 2**18)


def _whole(stream: IO[bytes], wanted: Wanted) -> Document:
    data = stream.read(wanted.max_item_bytes + 1)
    refused = too_large(len(data), wanted)
    return Document("", None if refused else data, refused=refused)


def _lines(stream: io.BufferedReader, config: TextIngestConfig, wanted: Wanted) -> Iterator[tuple[int, Document]]:
    for number, line, refused in _numbered(stream, wanted):
        if refused or line.strip():
            yield number, Document("", None if refused else line, refused=refused)


def _paragraphs(stream: io.BufferedReader, config: TextIngestConfig, wanted: Wanted) -> Iterator[tuple[int, Document]]:
    """Runs of lines that are not blank."""
    lines: list[bytes] = []
    first = size = 0
    reason: str | None = None
    for number, line, refused in _numbered(stream, wanted):
        if line.strip() or refused:
            first = first or number
            size += len(line)
            reason = reason or refused or too_large(size, wanted)
            lines = [] if reason else [*lines, line]
        elif first:
            yield first, Document("", None if reason else b"".join(lines), refused=reason)
            lines, first, size, reason = [], 0, 0, None
    if first:
        yield first, Document("", None if reason else b"".join(lines), refused=reason)


def _objects(stream: io.BufferedReader, config: TextIngestConfig, wanted: Wanted) -> Iterator[tuple[int, Document]]:
    for number, line, refused in _numbered(stream, wanted):
        if refused:
            yield number, Document("", None, refused=refused)
        elif line.strip():
            yield number, _from_json(line, config)


def _from_json(line: bytes, config: TextIngestConfig) -> Document:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        return Document("", None, refused=f"it is no JSON ({error}): JSON lines have one object in each line")
    if isinstance(record, str):
        return Document("", record.encode("utf-8", "surrogatepass"))
    if not isinstance(record, dict):
        return Document("", None, refused=f"it is a JSON {type(record).__name__}, not an object with a text")
    text = _field(record, [config.text_field] if config.text_field else FIRST_NAMES)
    try:
        label = label_of(_field(record, [config.label_field] if config.label_field else CLASS_NAMES))
    except SeveralLabels as reason:
        return Document("", None, refused=f"{reason}: set text.ingest.label_field to a field of one")
    second = _field(record, SECOND_NAMES)
    if not isinstance(text, str):
        return Document(
            "", None, refused=f"none of its fields {', '.join(record)} is a text: set text.ingest.text_field"
        )
    data = text.encode("utf-8", "surrogatepass")
    return Document("", data, label, second if isinstance(second, str) else None)


def _field(record: Mapping[str, Any], names: Any) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _numbered(stream: io.BufferedReader, wanted: Wanted) -> Iterator[tuple[int, bytes, str | None]]:
    """Lines with their end as UTF-8 and their numbers from 1; one that is too long is refused and not held."""
    encoding, _ = encoding_of(stream.peek(4))
    if encoding != "utf-8":  # line ends of wider characters are not those of bytes
        wide = io.TextIOWrapper(stream, encoding[:-3], newline="")
        yield from ((number, line.encode("utf-8", "surrogatepass"), None) for number, line in enumerate(wide, 1))
        return
    limit = wanted.max_item_bytes
    for number, (line, size) in enumerate(byte_lines(stream, limit), 1):
        yield (number, b"", too_large(size, wanted)) if size > limit else (number, line, None)
