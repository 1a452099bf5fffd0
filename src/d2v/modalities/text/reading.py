"""From the bytes of a document to what the corpus stores, or a reason why not. Stored documents are UTF-8 with LF."""

from __future__ import annotations

import numpy as np

from d2v.data.ingest import Record, Rejected
from d2v.data.lines import encoding_of
from d2v.modalities.text.config import TextIngestConfig

NUL, REPLACEMENT, MARK = "\0", "\ufffd", "\ufeff"
FACTS = ("characters", "bytes")
TEXTS = ("second", "score")
"""Columns of the corpus beside the text: the second sentence of a pair, and a score such as STS-B's 0 to 5."""
PAIR = b"\x00pair\x00"
"""Between the sentences of a pair on their way from source to reader: no text holds NUL, and so a pair is a duplicate
only of the same pair."""


def read_document(data: bytes | np.ndarray, config: TextIngestConfig) -> Record:
    """Decode one document.

    Args:
        data: UTF-8, or UTF-8, UTF-16 or UTF-32 with a byte-order mark; two sentences with PAIR between them are a pair.
        config: limits, and whether bad bytes are replaced.

    Raises:
        Rejected: with the reason.
    """
    if isinstance(data, np.ndarray):
        raise Rejected("it is an array, not a text")
    if len(data) > config.max_item_bytes:
        raise Rejected(f"the document has {len(data):,} bytes, above max_item_bytes {config.max_item_bytes:,}")
    first, pair, second = data.partition(PAIR)
    notes: list[str] = []
    text = _decode(first, config, notes)
    texts = {"second": _decode(second, config, notes)} if pair else {}
    stored = text.encode()
    origin = {"encoding": encoding_of(first)[0].removesuffix("-le").removesuffix("-be").upper()}
    return Record(stored, {"characters": len(text), "bytes": len(stored)}, ", ".join(notes), texts, origin)


def as_stored(text: str) -> str:
    """A text with LF for its line ends and without a byte-order mark that was taken for a character."""
    return text.removeprefix(MARK).replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, config: TextIngestConfig, notes: list[str]) -> str:
    encoding, mark = encoding_of(data)
    if encoding != "utf-8":
        notes.append(f"from {encoding[:-3].upper()}")
    text = _characters(data[mark:], encoding, mark, config, notes)
    if NUL in text:
        line = text[: text.index(NUL)].count("\n") + 1
        raise Rejected(f"it is not text but binary data: it holds NUL in line {line:,}")
    text = as_stored(text)
    if not text.strip():
        raise Rejected("it is empty")
    if len(text) < config.min_characters:
        raise Rejected(f"{len(text)} characters are fewer than min_characters {config.min_characters}")
    return text


def _characters(data: bytes, encoding: str, mark: int, config: TextIngestConfig, notes: list[str]) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and b"\0" in data:
            raise Rejected("it is not text but binary data: it holds NUL bytes and is no valid UTF-8") from None
        if config.bad_bytes == "quarantine":
            raise Rejected(_bad_byte(data, encoding, mark, error)) from None
    text = data.decode(encoding, errors="replace")
    replaced = text.count(REPLACEMENT) - data.decode(encoding, errors="ignore").count(REPLACEMENT)
    notes.append(f"{replaced} bad bytes replaced")
    return text


def _bad_byte(data: bytes, encoding: str, mark: int, error: UnicodeDecodeError) -> str:
    name = encoding.upper() if encoding == "utf-8" else encoding[:-3].upper()
    line = data[: error.start].decode(encoding, errors="ignore").count("\n") + 1
    bad = data[error.start : error.start + 1].hex()
    return (
        f"it is no valid {name}: byte 0x{bad} at offset {error.start + mark:,}, line {line:,} "
        f"({error.reason}). Save it as UTF-8, or set text.ingest.bad_bytes=replace"
    )
