"""Sources and their items, with their names, labels and splits, whatever the modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Item:
    """One item of a source, as it was found.

    Attributes:
        key: stable name within the source, POSIX style.
        data: the encoded file, or a raw array; None if the item was refused.
        label: name of its class, if it has one.
        split: the source's own split ("train", "val", "test"), if it has one.
        refused: why the source would not read it (a link, a bomb, a path that climbs out), else None.
        texts: what else the source says about it, such as its transcript or speaker.
        group: what it must share its split with, such as all recordings of a speaker; None for nothing.
        fold: number of its fold, where the source has folds.
        address: path or URL of its file, with its place in an archive or a table behind; "" where the key says that.
        line: line of the file that it begins in, from 1, where a file holds several.
        rows: how many items it stands for: more than one where the rest of an array or a table is refused at once.
    """

    key: str
    data: bytes | np.ndarray | None
    label: str | None = None
    split: str | None = None
    refused: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    fold: str | None = None
    address: str = field(default="", compare=False)
    line: int | None = None
    rows: int = 1


class ItemRange(Protocol):
    """Some items of a source, which a process can read that has not opened the source. It is pickled into a file, so it
    holds no credentials: the reader's machine has its own, and `options` are those of the source's file system.
    """

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises DataError if they are not what they were when the source was opened."""
        ...

    def items(self, options: Mapping[str, Any]) -> Iterator[Item]:
        """The items."""
        ...


@dataclass(frozen=True)
class Source:
    """A source of items in a fixed order.

    Attributes:
        description: for people, such as a path.
        fingerprint: changes when the source changes.
        total: number of items, if that is known cheaply.
        items: start index -> items from there on, always in the same order.
        class_names: the classes in their own order; None takes the labels found, sorted.
        remarks: sentences about the source as a whole, for people, once its items have been read.
        licence: what its items are under, for model cards; "" if it does not say.
        left_out: sentences about files of the source that are not read.
        cuts: indices of items, ascending, at which reading can start without what lies before, of a source whose
            `total` is None. One with a total can start anywhere.
        ranges: (start, stop) -> these items as others can read them, of a source that has a list of its items; None of
            others.
    """

    description: str
    fingerprint: str
    total: int | None
    items: Callable[[int], Iterator[Item]]
    class_names: tuple[str, ...] | None = None
    remarks: Callable[[], Sequence[str]] = tuple
    licence: str = ""
    left_out: tuple[str, ...] = ()
    cuts: Callable[[], Sequence[int]] = tuple
    ranges: Callable[[int, int], ItemRange] | None = None
