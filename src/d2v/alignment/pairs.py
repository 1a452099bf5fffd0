"""Pairs of items of two modalities, and which of them are held out.

An item may have several partners, as a picture with five captions, and a text may belong to several items. Whatever is
joined by pairs is one group. Groups, not pairs, are held out: otherwise a text that the heads have seen with one
picture would be asked for with another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from d2v.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """Pairs of one kind.

    Attributes:
        name: for tables, such as "captions".
        first, second: modalities.
        first_rows, second_rows: (n,) int64 rows of the two modalities' items.
    """

    name: str
    first: str
    second: str
    first_rows: np.ndarray
    second_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.first_rows)

    def select(self, chosen: np.ndarray) -> Pairs:
        """Some of the pairs, by number or by bool."""
        return replace(self, first_rows=self.first_rows[chosen], second_rows=self.second_rows[chosen])

    def joined(self, other: Pairs) -> Pairs:
        """These and others of the kind."""
        rows = (
            np.concatenate([self.first_rows, other.first_rows]),
            np.concatenate([self.second_rows, other.second_rows]),
        )
        return replace(self, first_rows=rows[0], second_rows=rows[1])

    def groups(self) -> np.ndarray:
        """(n,) int64: pairs that share an item, directly or over others, have the same number."""
        from scipy.sparse import coo_array  # imported late: encoding into an aligned space does not need it
        from scipy.sparse.csgraph import connected_components

        if not len(self):
            return np.zeros(0, np.int64)
        _, firsts = np.unique(self.first_rows, return_inverse=True)
        _, seconds = np.unique(self.second_rows, return_inverse=True)
        size = int(firsts.max()) + int(seconds.max()) + 2
        joined = coo_array((np.ones(len(self)), (firsts, seconds + firsts.max() + 1)), shape=(size, size))
        numbers: np.ndarray = connected_components(joined, directed=False)[1][firsts]
        return numbers.astype(np.int64)


@dataclass(frozen=True)
class HeldOut:
    """Pairs to train on and to measure on.

    Attributes:
        train: pairs.
        test: held-out pairs: neither their items nor their partners are among those of `train`.
        known: pairs of held-out items whose partners are among those of `train`, such as new pictures with captions
            that were seen; empty where no item is held out by its source.
    """

    train: Pairs
    test: Pairs
    known: Pairs


RULES = 2
"""Of `hold_out` and `apart`; raised when they part pairs differently."""


def hold_out(pairs: Pairs, second_keys: Sequence[str], first_is_test: np.ndarray, share: float) -> HeldOut:
    """Part pairs into those to train on and those to measure on, the same way in every run.

    A group is held out by a hash of what its second items are, so that more data do not move it. Where the source has
    test items of its own, only these are measured on, and none is trained on; their partners that no training pair has
    are held out as well.

    Args:
        pairs: of one kind.
        second_keys: (n,) what the second item of each pair is, such as its text.
        first_is_test: (n,) bool, whether the source counts the first item of each pair as a test item.
        share: of the groups to hold out, from 0 to 1.

    Raises:
        DataError: nothing is left to train on, or to measure on.
    """
    groups, has_test = pairs.groups(), bool(first_is_test.any())
    names: dict[int, str] = {}
    for group, key in zip(groups.tolist(), second_keys, strict=True):
        names[group] = min(key, names.get(group, key))
    held = {group: _number(name) < share for group, name in names.items()}
    is_held = np.array([held[group] for group in groups.tolist()], dtype=bool)
    measured = first_is_test if has_test else np.ones(len(pairs), dtype=bool)
    unseen = ~first_is_test if has_test else np.ones(len(pairs), dtype=bool)
    is_seen = np.isin(groups, groups[~is_held & unseen])  # a test split may have texts of its own beside those held out
    found = HeldOut(
        pairs.select(~is_held & unseen), pairs.select(~is_seen & measured), pairs.select(is_seen & first_is_test)
    )
    if len(np.unique(found.train.second_rows)) < 2 or not len(found.test):
        raise DataError(
            f"{pairs.name}: {len(pairs):,} pairs in {len(names):,} groups that share nothing give {len(found.train):,} "
            f"to train on and {len(found.test):,} to measure on: give more pairs, or change align.held_out ({share:g})"
        )
    return found


def apart(kinds: Mapping[str, HeldOut]) -> dict[str, HeldOut]:
    """Kinds of pairs whose held-out items no other kind is trained on: where one is, the pair is a known one.

    Args:
        kinds: name -> its pairs, each parted by `hold_out`.

    Raises:
        DataError: nothing of a kind is left to measure on.
    """
    trained: dict[str, set[int]] = {}
    for held in kinds.values():
        for modality, rows in ((held.train.first, held.train.first_rows), (held.train.second, held.train.second_rows)):
            trained.setdefault(modality, set()).update(rows.tolist())
    found = {}
    for name, held in kinds.items():
        seen = {side: np.array(sorted(trained.get(side, ())), np.int64) for side in (held.test.first, held.test.second)}
        is_known = np.isin(held.test.first_rows, seen[held.test.first])
        is_known |= np.isin(held.test.second_rows, seen[held.test.second])
        if is_known.all():
            raise DataError(
                f"{name}: all {len(is_known):,} held-out pairs have an item that another kind is trained on: give more "
                "pairs, or train the kinds one by one"
            )
        found[name] = HeldOut(held.train, held.test.select(~is_known), held.known.joined(held.test.select(is_known)))
    return found


def _number(name: str) -> float:
    """From 0 to 1, evenly spread, the same for the same name."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=6).digest(), "big") / 2**48
