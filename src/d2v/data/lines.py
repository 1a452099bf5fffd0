"""Encodings, lines and words of what people write: one rule for tables, transcripts, documents and scores."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CHUNK_BYTES = 2**16
ZERO_WIDTH_SPACE = "\u200b"
"""It parts words, as between the words of Thai and Khmer, though Python does not take it for white space."""
INVISIBLE = {
    code: None
    for first, last in (
        (0x00AD, 0x00AD),  # soft hyphen
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x061C, 0x061C),  # Arabic letter mark
        (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
        (0x200C, 0x200F),  # zero-width non-joiner and joiner, direction marks
        (0x202A, 0x202E),  # embedded directions
        (0x2060, 0x206F),  # word joiner, invisible operators, isolated directions
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFEFF, 0xFEFF),  # byte-order mark
    )
    for code in range(first, last + 1)
}
"""Characters that are neither seen nor heard and do not part words, for `str.translate`."""


def encoding_of(head: bytes) -> tuple[str, int]:
    """Encoding of a text by its first bytes, and the length of its byte-order mark."""
    return next(((name, len(mark)) for mark, name in MARKS if head.startswith(mark)), ("utf-8", 0))


def decoded(content: bytes) -> str:
    """A text of UTF-8, or of UTF-16 or UTF-32 with a mark.

    Raises:
        UnicodeDecodeError: it is not of that encoding.
    """
    encoding, mark = encoding_of(content)
    return content[mark:].decode(encoding)


def lines_of(text: str) -> list[str]:
    """Lines without their ends. Only LF, CRLF and CR end a line; `str.splitlines` also cuts at form feeds, U+0085,
    U+2028 and more, which stand inside sentences."""
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


class AsUtf8:
    """A stream of text in another encoding, read as UTF-8, in constant memory.

    Args:
        stream: bytes.
        encoding: with its byte order, or one whose mark the stream begins with.
        errors: how bytes that are not of the encoding are decoded.

    Raises:
        UnicodeDecodeError: reading meets such bytes, and `errors` does not say what they become.
    """

    def __init__(self, stream: IO[bytes], encoding: str, errors: str = "strict") -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._errors = "surrogatepass" if errors == "strict" else errors

    def read(self, size: int) -> bytes:
        """About as many bytes; none at the end alone."""
        found = ""
        while not found:
            chunk = self._stream.read(size)
            found = self._decoder.decode(chunk, final=not chunk)
            if not chunk:
                break
        return found.encode("utf-8", self._errors)


def byte_lines(stream: IO[bytes] | AsUtf8, limit: int) -> Iterator[tuple[bytes, int]]:
    """Lines of bytes with their ends, and their sizes, in constant memory.

    Args:
        stream: bytes in which LF, CRLF and CR end a line.
        limit: a longer line comes back empty, with its size.
    """
    pending: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK_BYTES):
        if pending and pending[-1].endswith(b"\r") and not chunk.startswith(b"\n"):
            yield b"".join(pending), size
            pending, size = [], 0
        pieces = chunk.splitlines(keepends=True)  # of bytes, it cuts at these three alone
        for number, piece in enumerate(pieces, 1):
            size += len(piece)
            pending = [] if size > limit else pending
            pending.append(b"" if size > limit else piece)
            may_go_on = number == len(pieces) and piece.endswith(b"\r")  # its LF may begin the next chunk
            if piece.endswith((b"\n", b"\r")) and not may_go_on:
                yield b"".join(pending), size
                pending, size = [], 0
    if size:
        yield b"".join(pending), size


def single_spaced(text: str) -> str:
    """Words with one space between them; line ends, no-break spaces and zero-width spaces part words too."""
    return " ".join(text.replace(ZERO_WIDTH_SPACE, " ").split())


def words_of(text: str) -> list[str]:
    """The words of a text, without invisible characters, which do not part them.

    Example:
        >>> words_of("co\\u00adoperate  at\\u00a0once")
        ['cooperate', 'at', 'once']
    """
    return single_spaced(text.translate(INVISIBLE)).split(" ") if text.strip() else []
