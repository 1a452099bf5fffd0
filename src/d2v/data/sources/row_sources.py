"""Sources of counted rows, such as arrays, tables and named data sets.

The rows of every split, or of every file of it, are counted beforehand, so that reading can start at any row. A row
that cannot be read comes back as an item with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from d2v.data.sources.layout import SPLITS, settle_splits
from d2v.data.sources.source import Item, Source

LABEL_NAMES = ("label", "labels", "class", "classes", "y", "target", "targets", "fine_label")


@dataclass(frozen=True)
class Split:
    """Rows of one split, or of one file of it.

    Attributes:
        name: "train", "val" or "test"; None leaves it to the items' hashes.
        rows: how many there are.
        items: start row -> exactly `rows - start` items.
    """

    name: str | None
    rows: int
    items: Callable[[int], Iterator[Item]]


def source_of_splits(
    description: str, fingerprint: str, splits: Sequence[Split], class_names: Sequence[str] | None
) -> Source:
    """One source of several splits, in their order; without a test split, the validation split is the test split."""
    settled = settle_splits([split.name for split in splits])

    def items(start: int) -> Iterator[Item]:
        for split in splits:
            if start < split.rows:
                name = settled[split.name] if split.name else None
                yield from (replace(item, split=name) for item in split.items(start))
            start = max(start - split.rows, 0)

    names = tuple(class_names) if class_names is not None else None
    return Source(description, fingerprint, sum(split.rows for split in splits), items, names)


def split_in(name: str) -> str | None:
    """Split that a file or array name speaks of: the first word that is one (x_train, test-00000-of-00001)."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def in_order(classes: Sequence[str]) -> list[str] | None:
    """Numbers by value, anything else by name; None if there are none."""
    numeric = all(re.fullmatch(r"-?\d+", name) for name in classes)
    return sorted(classes, key=int) if classes and numeric else (sorted(classes) or None)
