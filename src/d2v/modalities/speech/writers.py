"""The program that wrote a sound file, where the file says it."""

from __future__ import annotations

import re
from collections.abc import Callable

from d2v.data.ingest import one_line

HEAD_BYTES, INFO_BYTES = 2**16, 2**12
WRITER_CHARACTERS = 60
_LAME = re.compile(rb"(?:Xing|Info).{116}((?:LAME|Lavc|Lavf|GOGO|L3\.99)[ -~]{0,12})", re.DOTALL)
_ID3_ENCODER = re.compile(rb"TSS[E\0]?.{6}[\0\3]([ -~]{1,60})", re.DOTALL)
_MP4_TOOL = re.compile(rb"\xa9too.{4}data.{8}([ -~]{1,60})", re.DOTALL)
_INFO = re.compile(rb"LIST.{4}INFO", re.DOTALL)
_INFO_WRITER = re.compile(rb"ISFT.{4}([ -~]{1,60})", re.DOTALL)
_MATROSKA_WRITER = re.compile(rb"\x57\x41[\x81-\xbc]([ -~]{1,60})", re.DOTALL)


def writer_of(data: bytes) -> str:
    """The name that a program left in a file; empty if none is found."""
    head, end = data[:HEAD_BYTES], data[-HEAD_BYTES:]
    for magic, at, find in _FINDERS:
        if head[at : at + len(magic)] == magic:
            found = find(head) or (find(end) if len(data) > HEAD_BYTES else b"")
            return one_line(found.decode("utf-8", "replace"))[:WRITER_CHARACTERS]
    return ""


def _by(*patterns: re.Pattern[bytes]) -> Callable[[bytes], bytes]:
    def find(part: bytes) -> bytes:
        found = (pattern.search(part) for pattern in patterns)
        return next((match.groups()[-1] for match in found if match), b"")

    return find


def _software(part: bytes) -> bytes:
    """ISFT of the chunk of texts in a WAV file."""
    info = _INFO.search(part)
    found = _INFO_WRITER.search(part, info.end(), info.end() + INFO_BYTES) if info else None
    return found[1] if found else b""


def _vendor(part: bytes) -> bytes:
    """Vendor of the comments of FLAC, Vorbis and Opus: a length and a text behind what announces them."""
    if part[:4] == b"fLaC":
        at = 4
        while at + 4 <= len(part) and part[at] & 127 != 4:
            if part[at] & 128:
                return b""
            at += 4 + int.from_bytes(part[at + 1 : at + 4], "big")
        at += 4
    else:
        comments = re.search(rb"OpusTags|\x03vorbis|\x7fFLAC", part)
        at = comments.end() if comments else len(part)
    size = int.from_bytes(part[at : at + 4], "little")
    return part[at + 4 : at + 4 + size] if size <= 1024 else b""


_FINDERS: tuple[tuple[bytes, int, Callable[[bytes], bytes]], ...] = (
    (b"fLaC", 0, _vendor),
    (b"OggS", 0, _vendor),
    (b"WAVE", 8, _software),
    (b"ftyp", 4, _by(_MP4_TOOL)),
    (b"\x1aE\xdf\xa3", 0, _by(_MATROSKA_WRITER)),
    (b"ID3", 0, _by(_LAME, _ID3_ENCODER)),
    (b"\xff", 0, _by(_LAME)),
)
"""(magic, where it stands, what finds the name)."""
