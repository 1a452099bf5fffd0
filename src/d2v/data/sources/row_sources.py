"""Sources of counted rows, such as arrays, tables and named data sets.

Such a source is a list of parts (one per split or file) whose rows are counted beforehand, so that reading can start
at any row. A row that cannot be read comes back as an item with the reason, so that every promised row is accounted
for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from d2v.data.sources.layout import SPLITS, settle_splits
from d2v.data.sources.source import Item, Source

LABEL_NAMES = ("label", "labels", "class", "classes", "y", "target", "targets", "fine_label")


@dataclass(frozen=True)
class Part:
    """Rows of one split; `items(start)` yields exactly `rows - start` items."""

    split: str | None
    rows: int
    items: Callable[[int], Iterator[Item]]


def parts_source(
    description: str, fingerprint: str, parts: Sequence[Part], class_names: Sequence[str] | None
) -> Source:
    """One source of several parts, in their order; without a test part, the validation part is the test part."""
    settled = settle_splits([part.split for part in parts])

    def items(start: int) -> Iterator[Item]:
        for part in parts:
            if start < part.rows:
                split = settled[part.split] if part.split else None
                yield from (replace(item, split=split) for item in part.items(start))
            start = max(start - part.rows, 0)

    names = tuple(class_names) if class_names is not None else None
    return Source(description, fingerprint, sum(part.rows for part in parts), items, names)


def split_in(name: str) -> str | None:
    """Split that a file or array name speaks of: the first word that is one (x_train, test-00000-of-00001)."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def in_order(classes: Sequence[str]) -> list[str] | None:
    """Numbers by value, anything else by name; None if there are none."""
    numeric = all(re.fullmatch(r"-?\d+", name) for name in classes)
    return sorted(classes, key=int) if classes and numeric else (sorted(classes) or None)
