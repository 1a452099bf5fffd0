"""Sources of counted rows, such as arrays, tables and named data sets.

The rows of every split, or of every file of it, are counted beforehand, so that reading can start at any row. A row
that cannot be read comes back as an item with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import settled

LISTED_ROWS = 64


@dataclass(frozen=True)
class Split:
    """Rows of one split, or of one file of it.

    Attributes:
        name: a kind of split (`split_names.SPLIT_WORDS`); None where it is unknown.
        rows: how many there are.
        items: start row -> items that stand for exactly `rows - start` rows.
        kinds: kinds of split that rows have of their own, in `Item.split`.
    """

    name: str | None
    rows: int
    items: Callable[[int], Iterator[Item]]
    kinds: frozenset[str] = frozenset()


def refused_rows(item: Callable[[int], Item], first: int, end: int) -> Iterator[Item]:
    """Rows that cannot be read: one item each of the first LISTED_ROWS, and one that counts all others, for a damaged
    header can promise more rows than there is disk for a line each.

    Args:
        item: row -> the refused item.
        first: the first of them.
        end: the row behind the last.
    """
    listed = min(end, first + LISTED_ROWS)
    yield from map(item, range(first, listed))
    if listed < end:
        yield replace(item(listed), rows=end - listed)


def source_of_splits(
    description: str, fingerprint: str, splits: Sequence[Split], class_names: Sequence[str] | None
) -> Source:
    """One source of several splits, in their order. Rows of no split are trained on where there is a test split, else
    their hashes part them."""
    kinds = {split.name for split in splits}.union(*(split.kinds for split in splits)) - {None}
    used = settled(kinds)
    unsaid = "train" if any(used[kind] == "test" for kind in kinds if kind) else None

    def items(start: int) -> Iterator[Item]:
        for split in splits:
            if start < split.rows:
                for item in split.items(start):
                    kind = item.split or split.name
                    label = None if kind == "unlabelled" else item.label
                    yield replace(item, split=used[kind] if kind else unsaid, label=label)
            start = max(start - split.rows, 0)

    names = tuple(class_names) if class_names is not None else None
    return Source(description, fingerprint, sum(split.rows for split in splits), items, names)


def in_order(classes: Sequence[str]) -> list[str] | None:
    """Numbers by value, anything else by name; None if there are none."""
    numeric = all(re.fullmatch(r"-?\d+", name) for name in classes)
    return sorted(classes, key=int) if classes and numeric else (sorted(classes) or None)
