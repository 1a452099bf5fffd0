"""What an index of vectors keeps of an item, whoever reads it: `d2v index` itself, or `d2v encode` for it."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data.sources.source import Item
from d2v.interchange.load import Model, Space
from d2v.modalities.base import Modality
from d2v.modalities.long_items import Long
from d2v.progress import log

PREVIEW_BYTES = 200_000
"""A preview that is larger is left out."""
MODIFIED = "modified_s"
"""The column of times; indexes of before have none until they are brought up to date."""
COLUMNS = (
    "id",
    "root",
    "file",
    "line",
    "label",
    "sha256",
    "snippet",
    "media_type",
    "preview",
    "is_small",
    MODIFIED,
)
KINDS = {"line": pa.int64(), "preview": pa.binary(), "is_small": pa.bool_(), MODIFIED: pa.float64()}
"""Types of columns that are no text."""
FIELDS = [pa.field(name, KINDS.get(name, pa.string())) for name in COLUMNS]
INDEX_LONG: Long = "windows"
"""An index has vectors of whole texts."""
HIDDEN: dict[str, Any] = {"snippet": None, "media_type": None, "preview": None, "is_small": False}
"""The columns of an item without a preview."""


def space_of(model: Model) -> Space:
    """The space that an index of an encoder's vectors is in: the one to search in, if it has that."""
    if model.search_space is not None:
        return "search"
    log("index: the model has no space to search in, so plain features are compared; d2v space makes one")
    return "plain"


def id_of(file: str, key: str, line: int | None) -> str:
    """What an item is called, without the path that led to it: the key of an item in a folder begins below that."""
    return hashlib.sha256(f"{file}\0{PurePosixPath(text_of(key)).name}\0{line}".encode()).hexdigest()


def digest_of(item: Item) -> str:
    """SHA-256 of the content of an item that has one."""
    data = item.data if isinstance(item.data, bytes) else np.ascontiguousarray(item.data).tobytes()
    return hashlib.sha256(data).hexdigest()


def shown(modality: Modality, item: Item) -> dict[str, Any]:
    """The columns of an item's preview. An item that cannot be shown can still be found."""
    if not isinstance(item.data, bytes):
        return HIDDEN
    try:
        preview = modality.preview(item.data, dict(item.texts))
    except Exception:
        return HIDDEN
    if preview is None or len(preview.data) > PREVIEW_BYTES:
        return HIDDEN
    said = {"snippet": text_of(preview.text), "media_type": preview.media_type}
    return said | {"preview": preview.data, "is_small": preview.is_small}


def row_of(modality: Modality, item: Item, address: str, root: str) -> dict[str, Any]:
    """All columns of an item that has a content.

    Args:
        modality: of the item.
        item: as its source gives it.
        address: where it lies.
        root: the path that led to it.
    """
    file = text_of(address)
    said = {"id": id_of(file, item.key, item.line), "root": text_of(root), "file": file, "line": item.line}
    kept = {"label": item.label, "sha256": digest_of(item), MODIFIED: modified_s_of(address)}
    return said | kept | shown(modality, item)


def text_of(value: str) -> str:
    """Valid text of a name or a beginning that may not be."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def modified_s_of(address: str) -> float | None:
    """When a file was modified last, or the archive or table that an item lies in, in seconds since 1970; None where
    there is no such file."""
    for path in (Path(address), *Path(address).parents):
        try:
            found = path.stat()
        except (OSError, ValueError):
            continue
        return found.st_mtime if stat.S_ISREG(found.st_mode) else None
    return None
