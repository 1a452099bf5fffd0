"""Documents in every encoding that people have, and files that are not text."""

from __future__ import annotations

import numpy as np
import pytest

from d2v.data.ingest import Rejected
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.text.reading import PAIR, read_document

CONFIG = TextIngestConfig(source="x")
REPLACE = TextIngestConfig(source="x", bad_bytes="replace")


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        (b"plain", "plain", ""),
        ("né 日本\n".encode(), "né 日本\n", ""),
        ("né".encode("utf-8-sig"), "né", ""),
        ("né".encode("utf-16"), "né", "from UTF-16"),
        (b"\xfe\xff" + "né 🙂".encode("utf-16-be"), "né 🙂", "from UTF-16"),
        ("né".encode("utf-32"), "né", "from UTF-32"),
        (b"a\r\nb\rc\n\n", "a\nb\nc\n\n", ""),
    ],
)
def test_stored_as_utf8_with_lf(data: bytes, text: str, note: str) -> None:
    record = read_document(data, CONFIG)
    assert record.data.decode() == text
    assert record.facts == {"characters": len(text), "bytes": len(text.encode())}
    assert record.note == note
    assert record.texts == {}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"one\ntwo\0three", "binary data: it holds NUL in line 2"),
        (b"\x89PNG\0\xff\xfe", "binary data"),
        (b"one\ntwo \xff", r"no valid UTF-8: byte 0xff at offset 8, line 2 .*bad_bytes=replace"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 0xe9 at offset 6, line 1"),
        (b"\xff\xfea\0b", "no valid UTF-16: byte 0x62 at offset 4"),
        (b"x" * 101, "above max_item_bytes 100"),
        (np.zeros(3), "an array"),
    ],
)
def test_rejected_with_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        read_document(data, TextIngestConfig(source="x", max_item_bytes=100))


def test_bad_bytes_are_replaced_and_counted_if_so_wished() -> None:
    record = read_document(b"caf\xe9 \xff\xff \xef\xbf\xbd", REPLACE)
    assert record.data.decode() == "caf� �� �"
    assert record.note == "3 bad bytes replaced"
    with pytest.raises(Rejected, match="binary"):
        read_document(b"\0\xff", REPLACE)


def test_short_documents_are_rejected() -> None:
    with pytest.raises(Rejected, match="4 characters are fewer than min_characters 5"):
        read_document(b"four", TextIngestConfig(source="x", min_characters=5))


def test_pairs_are_parted() -> None:
    record = read_document(b"first" + PAIR + b"second\r\n", CONFIG)
    assert record.data == b"first"
    assert record.texts == {"second": "second\n"}
    with pytest.raises(Rejected, match="empty"):
        read_document(b"first" + PAIR, CONFIG)
