"""The items of a corpus in 17 bytes an item, kept with a model as its lineage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.ingest import BELONGS, MANIFEST
from d2v.data.prepared import Corpus
from d2v.errors import CheckpointError

ITEMS = "items.npz"
_BESIDE = ("key", "note", *BELONGS)
"""Strings of the manifest that do not change what is learned."""


@dataclass(frozen=True)
class Items:
    """The items of a corpus, in the order of its manifest.

    Attributes:
        content: (n,) uint64 digests of what is stored.
        row: (n,) uint64 digests of content, split, label and texts.
        is_train: (n,) bool.
        is_test: (n,) bool: those that models are measured on.
        seen: digests of the content that a model of these items was trained on: the train items, and what its ancestors
            were trained on.
    """

    content: np.ndarray
    row: np.ndarray
    is_train: np.ndarray
    is_test: np.ndarray
    seen: np.ndarray

    def after(self, ancestor: Items) -> Items:
        """These items, for a model that goes on from another one's weights."""
        return replace(self, seen=np.union1d(self.seen, ancestor.seen))

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        np.savez(folder / ITEMS, **vars(self))


def items_of(corpus: Path) -> Items:
    """The items of a corpus folder.

    Raises:
        DataError: there is no finished corpus, or nothing to train on.
    """
    opened = Corpus(corpus)
    contents: list[bytes] = opened.column("sha256")
    strings = [field.name for field in pq.read_schema(corpus / MANIFEST) if pa.types.is_string(field.type)]
    columns = [opened.column(name) for name in strings if name not in _BESIDE]
    rows = [_digest(content, cells) for content, *cells in zip(contents, *columns, strict=True)]
    splits = opened.items_by_split("items")
    marked = {name: np.zeros(len(opened), dtype=bool) for name in ("train", "test")}
    for name, chosen in splits.items():
        marked[name][chosen] = True
    content = np.array([int.from_bytes(one[:8], "big") for one in contents], dtype=np.uint64)
    seen = np.unique(content[marked["train"]])
    return Items(content, np.array(rows, dtype=np.uint64), marked["train"], marked["test"], seen)


def _digest(content: bytes, cells: Iterable[str | None]) -> int:
    text = "\t".join("" if cell is None else cell for cell in cells)
    return int.from_bytes(hashlib.blake2b(content + text.encode(), digest_size=8).digest(), "big")


def read_items(folder: Path | None) -> Items | None:
    """What `Items.save` wrote; None where a version has no lineage."""
    if folder is None or not (folder / ITEMS).is_file():
        return None
    try:
        with np.load(folder / ITEMS) as stored:
            return Items(**{name: stored[name] for name in stored.files})
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder / ITEMS} cannot be read ({error}): restore the registered version's files, or go back to "
            "another version with d2v rollback"
        ) from error


def new_content(items: Items, seen: Iterable[Items]) -> np.ndarray:
    """(n,) bool: train items whose content no model has seen in training."""
    known = _joined([one.content[one.is_train] for one in seen])
    return items.is_train & ~np.isin(items.content, known)


def new_rows(items: Items, seen: Iterable[Items]) -> np.ndarray:
    """(n,) bool: train items that are new, or have another label or text than before."""
    known = _joined([one.row[one.is_train] for one in seen])
    return items.is_train & ~np.isin(items.row, known)


def leaked(items: Items, trained_on: Items) -> int:
    """How many of the held-out items have content that a model, or one whose weights it goes on from, was trained
    on."""
    return int(np.isin(items.content[items.is_test], trained_on.seen).sum())


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts])
