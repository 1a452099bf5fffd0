"""What a corpus holds, counted from its files as streams: classes and splits, numbers of items, duplicates, quarantine.

Memory is one batch of the manifest, the names of the classes, and what is shown.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.ingest import DUPLICATES, MANIFEST, QUARANTINE
from d2v.modalities.base import Quantity

BATCH_ROWS = 2**16
BINS, FINE = 40, 50
"""Bars of a histogram, and the parts of each that the median is found by."""
MOST_VALUES = 16
"""A number with no more different values has a bar for each of them."""
LOG_RATIO = 50.0
"""The axis of a histogram is logarithmic where the largest value is so many times the smallest."""
MOST_REASONS = 1000
_VARYING = re.compile(r"0x[0-9a-f]+|\d[\d.,]*|'[^']*'")
"""Parts of a reason that differ between items of one problem: numbers, addresses and quoted words."""

Group = tuple[str, str | None]
"""Split and class."""


@dataclass
class Spread:
    """How a number is spread over items.

    Attributes:
        quantity: what it is.
        sums: by split.
        low, high: the extremes.
        values: value -> items, empty if there are more than MOST_VALUES.
        bins: (BINS * FINE,) items, if there are.
        edges: (BINS * FINE + 1,) of the bins.
    """

    quantity: Quantity
    sums: dict[str, float] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf
    items: int = 0
    values: Counter[float] = field(default_factory=Counter)
    has_few: bool = True
    bins: np.ndarray = field(default_factory=lambda: np.zeros(BINS * FINE, np.int64))
    edges: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, names: Sequence[str], splits: np.ndarray, values: np.ndarray) -> None:
        """The first pass: extremes, sums and different values.

        Args:
            names: of the splits.
            splits: (n,) their numbers.
            values: (n,) of the items.
        """
        self.items += len(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        for name, total in zip(names, np.bincount(splits, values, len(names)).tolist(), strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + total
        if self.has_few:
            found, counts = np.unique(values, return_counts=True)
            self.values.update(dict(zip(found[: MOST_VALUES + 1].tolist(), counts.tolist(), strict=False)))
            self.has_few = len(self.values) <= MOST_VALUES

    @property
    def is_logarithmic(self) -> bool:
        """Whether the bins grow by a factor."""
        return self.low > 0 and self.high / self.low > LOG_RATIO

    def count(self, values: np.ndarray) -> None:
        """The second pass: bins."""
        if self.has_few:
            return
        if not len(self.edges):
            space = np.geomspace if self.is_logarithmic else np.linspace
            self.edges = space(self.low, self.high, BINS * FINE + 1)
            self.edges[0], self.edges[-1] = self.low, self.high
        self.bins += np.histogram(values, self.edges)[0]

    @property
    def mean(self) -> float:
        """Over all items."""
        return sum(self.sums.values()) / self.items

    @property
    def median(self) -> float:
        """To a 2,000th of the range, or exactly where there are few values."""
        if self.has_few:
            ordered = sorted(self.values)
            behind = np.cumsum([self.values[value] for value in ordered])
            return ordered[int(np.searchsorted(behind, self.items / 2))]
        return float(self.edges[1 + int(np.searchsorted(np.cumsum(self.bins), self.items / 2))])


@dataclass
class CorpusCounts:
    """What a corpus holds.

    Attributes:
        classes: split -> class -> items; None for those without a class.
        spreads: of the numbers that its manifest has.
        texts: name of a text column -> items that have it.
        lacking: columns that the manifest of an earlier version does not have.
    """

    classes: dict[str, Counter[str | None]]
    spreads: list[Spread]
    texts: Counter[str]
    lacking: list[str]

    @property
    def splits(self) -> list[str]:
        """The splits: train, then test, then others."""
        order = {"train": 0, "test": 1, "val": 2}
        return sorted(self.classes, key=lambda split: (order.get(split, 3), split))

    @property
    def totals(self) -> Counter[str]:
        """Class -> items, the largest first."""
        counts = Counter[str]()
        for of_split in self.classes.values():
            counts.update({name: items for name, items in of_split.items() if name is not None})
        return Counter(dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))))

    def of(self, split: str) -> Counter[str]:
        """Class -> items of a split."""
        found = self.classes.get(split, Counter())
        return Counter({name: items for name, items in found.items() if name is not None})


def open_manifest(corpus: Path) -> pq.ParquetFile:
    """The manifest for reading as a stream: with pyarrow's own default it would keep the bytes of all that was read."""
    return pq.ParquetFile(corpus / MANIFEST, pre_buffer=False)


def count_corpus(corpus: Path, quantities: Sequence[Quantity], texts: Sequence[str]) -> CorpusCounts:
    """Two passes over the manifest: counts and extremes, then bins."""
    with open_manifest(corpus) as manifest:
        names = manifest.schema_arrow.names
        wanted = [name for one in quantities for name in one.facts] + list(texts)
        here = [one for one in quantities if set(one.facts) <= set(names)]
        counts = CorpusCounts({}, [Spread(one) for one in here], Counter(), sorted({*wanted} - {*names}))
        facts = sorted({name for one in here for name in one.facts})
        said = [name for name in texts if name in names]
        for batch in manifest.iter_batches(BATCH_ROWS, columns=["split", "label", *said, *facts]):
            _count_batch(batch, counts, said)
        for batch in manifest.iter_batches(BATCH_ROWS, columns=facts) if facts else ():
            for spread in counts.spreads:
                spread.count(_values(batch, spread.quantity))
    return counts


def _count_batch(batch: pa.RecordBatch, counts: CorpusCounts, texts: Sequence[str]) -> None:
    if not len(batch):
        return
    table = pa.Table.from_batches([batch]).select(["split", "label"])
    for row in table.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pylist():
        counts.classes.setdefault(row["split"], Counter())[row["label"]] += row["count_all"]
    splits = batch.column("split").dictionary_encode()
    for spread in counts.spreads:
        spread.add(splits.dictionary.to_pylist(), splits.indices.to_numpy(), _values(batch, spread.quantity))
    counts.texts.update({name: len(batch) - batch.column(name).null_count for name in texts})


def _values(batch: pa.RecordBatch, quantity: Quantity) -> np.ndarray:
    return np.asarray(quantity.of(*(batch.column(name).to_numpy() for name in quantity.facts)))


# ------------------------------------------------------------------------------------------ examples


def choose(corpus: Path, groups: Sequence[Group], items: int) -> dict[Group, list[int]]:
    """Some items of each group, as rows of the shards: those of the lowest content hashes, which is a random choice
    that is always the same and does not depend on the order of the source."""
    chosen: list[list[tuple[int, int]]] = [[] for _ in groups]  # (hash, row)
    with open_manifest(corpus) as manifest:
        for batch in manifest.iter_batches(BATCH_ROWS, columns=["split", "label", "sha256", "row"]):
            numbers, hashes, rows = _group_numbers(batch, groups), _hashes(batch["sha256"]), batch["row"].to_numpy()
            order = np.lexsort((hashes, numbers))
            begins = np.searchsorted(numbers[order], np.arange(len(groups) + 1))
            for number, (begin, end) in enumerate(pairwise(begins)):
                best = order[begin : min(begin + items, end)]
                found = zip(hashes[best].tolist(), rows[best].tolist(), strict=True)
                chosen[number] = sorted([*chosen[number], *found])[:items]
    return {group: [row for _, row in found] for group, found in zip(groups, chosen, strict=True)}


def _group_numbers(batch: pa.RecordBatch, groups: Sequence[Group]) -> np.ndarray:
    """(n,) places of the rows' groups among `groups`, -1 for others."""
    splits, labels = (batch[name].dictionary_encode(null_encoding="encode") for name in ("split", "label"))
    numbers = {group: number for number, group in enumerate(groups)}
    names = labels.dictionary.to_pylist()
    table = np.array([[numbers.get((split, name), -1) for name in names] for split in splits.dictionary.to_pylist()])
    return table[splits.indices.to_numpy(), labels.indices.to_numpy()]


def _hashes(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    """(n,) the first eight bytes of content hashes as numbers."""
    size = column.type.byte_width
    values = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * size :][: len(column) * size]
    return values.reshape(-1, size)[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)


# ------------------------------------------------------------------------- duplicates and quarantine


@dataclass
class Listed:
    """Lines of one kind in a table: how many, and the first of them."""

    items: int = 0
    examples: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, example: tuple[str, ...], most: int, items: int = 1) -> None:
        """Count a line, which may stand for several items."""
        self.items += items
        if len(self.examples) < most:
            self.examples.append(example)


def count_duplicates(corpus: Path, most: int) -> dict[str, Listed]:
    """Duplicates by kind, with the first pairs of keys of each."""
    kinds = {"across splits": Listed(), "within a split": Listed(), "in two classes": Listed()}
    for row in _rows(corpus / DUPLICATES):
        pair = (row.get("key") or "", row.get("duplicate_of") or "")
        kinds["across splits" if row.get("across_splits") == "yes" else "within a split"].add(pair, most)
        if said := row.get("contradiction"):
            kinds["in two classes"].add((*pair, said), most)
    return kinds


def count_quarantine(corpus: Path, most: int) -> list[tuple[str, Listed]]:
    """(the first reason of its kind, lines of it), the most frequent first. Reasons that differ only in numbers and
    quoted words are one kind."""
    kinds: dict[str, tuple[str, Listed]] = {}
    for row in _rows(corpus / QUARANTINE):
        reason = row.get("reason") or ""
        kind = _VARYING.sub("#", reason)
        if kind not in kinds and len(kinds) >= MOST_REASONS:
            kind, reason = "", "other reasons"
        kinds.setdefault(kind, (reason, Listed()))[1].add((row.get("key") or "",), most, int(row.get("items") or 1))
    return sorted(kinds.values(), key=lambda entry: -entry[1].items)


def _rows(path: Path) -> Iterator[Mapping[str, str | None]]:
    """Rows of a table that an earlier version may not have written."""
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            yield from csv.DictReader(line.replace("\0", "") for line in file)
