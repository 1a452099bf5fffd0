"""Hashes of contents and of parameters, and the split that follows from a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def content_hash(data: bytes | np.ndarray) -> bytes:
    """SHA-256 of an item; of an array with its type and shape."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    head = f"{data.dtype.str}{data.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(data).tobytes()).digest()


def of_values(values: Any) -> str:
    """Hex digest of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


class LineHash:
    """Digest of rows in their order, added a chunk at a time."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of plain values; bytes count as their hex digits."""
        for row in rows:
            cells = (value.hex() if isinstance(value, bytes) else str(value) for value in row.values())
            self._digest.update("\t".join(cells).encode() + b"\n")

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        return self._digest.hexdigest()


def hash_split(digest: bytes, test_fraction: float) -> str:
    """ "train" or "test" from an item's content: the same content is always on the same side."""
    position = int.from_bytes(digest[:8], "big") / 2.0**64
    return "test" if position < test_fraction else "train"
