"""A first look at a source: kind, numbers, classes, splits and sizes, before anything is written.

All items are listed. A sample of them is kept and read as ingest reads them. A source that takes long to list is looked
at in places.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from d2v.config import parse
from d2v.config.changes import merged
from d2v.data.ingest import Record, Rejected, refusal
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.modalities.suggestion import Survey

TRIED_ITEMS = 8
SAMPLE_ITEMS, SAMPLE_BYTES = 1024, 64 * 2**20
READ_ITEMS = 200
LIKELY_LABELS = ("category", "species", "sentiment", "emotion", "genre", "topic", "type", "kind", "tag")
"""Columns of classes that ingest does not take unasked."""
LIST_S = 20.0
"""Seconds after which a source is no longer listed whole."""


def survey(source: str, modality: str = "", settings: Mapping[str, Any] | None = None) -> Survey:
    """Look at a source.

    Args:
        source: a path or an fsspec URL.
        modality: what its items are; empty finds out.
        settings: further values of the ingest block.

    Raises:
        DataError: nothing is there, or no item can be read.
        ConfigError: settings that the ingest block does not have.

    Example:
        >>> survey("photos").classes  # doctest: +SKIP
        {'cat': 1200, 'dog': 400}
    """
    values: Mapping[str, Any] = {**(settings or {}), "source": source}
    found = registry.get(modality) if modality else _modality_of(values)
    values = _with_labels(found, values)
    config = _config(found, values)
    opened = found.open_source(config)
    listing = _Listing()
    listing.look(opened)
    records, problems = _read(found, config, listing.sample)
    if not records:
        why = f": {problems[0]}" if problems else ""
        raise DataError(f"none of the items in {source} can be read{why}")
    return Survey(
        modality=found.name,
        ingest=values,
        description=opened.description,
        items=listing.count if listing.is_whole else max(listing.count, opened.total or 0),
        is_whole=listing.is_whole,
        classes=dict(listing.classes.most_common()),
        splits=dict(listing.splits),
        folds=dict(sorted(listing.folds.items())),
        texts=dict(listing.texts),
        facts={name: np.array([one.facts[name] for one in records], np.int64) for name in found.facts},
        sample=listing.sample,
        problems=problems,
        remarks=[*opened.left_out, *opened.remarks()],
    )


def _config(modality: Modality, values: Mapping[str, Any]) -> Any:
    block: Any = modality.recipe.model_fields["ingest"].annotation
    at = f"{modality.name}.ingest"
    return parse(block, merged({}, values, at), at=at)


def _modality_of(values: Mapping[str, Any]) -> Modality:
    """The modality whose reader takes most of the first items. The first of the registry wins a tie: a table beside
    recordings is also a text."""
    accepted: dict[str, int] = {}
    reasons: list[str] = []
    for name, modality in registry.MODALITIES.items():
        try:
            accepted[name] = _tried(modality, values)
        except (DataError, ConfigError) as error:
            reasons.append(f"  {name}: {str(error).splitlines()[-1].strip()}")
    best = max(accepted, key=lambda name: accepted[name], default="")
    if not best or not accepted[best]:
        told = "\n".join(reasons + [f"  {name}: no reader takes its files" for name in accepted])
        raise DataError(f"{values['source']} holds nothing that can be trained on; --modality says what it is:\n{told}")
    return registry.get(best)


def _with_labels(modality: Modality, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with a column of classes, where ingest finds none by itself and the table has a likely one."""

    def has_labels(given: Mapping[str, Any]) -> bool:
        items = islice(modality.open_source(_config(modality, given)).items(0), TRIED_ITEMS)
        return any(item.label is not None for item in items)

    columns = values.get("columns", {})
    if "label" in columns or has_labels(values):
        return values
    for name in LIKELY_LABELS:
        named = {**values, "columns": {**columns, "label": name}}
        with contextlib.suppress(DataError, ConfigError):
            if has_labels(named):
                return named
    return values


def _tried(modality: Modality, values: Mapping[str, Any]) -> int:
    """How many of the first items the reader takes."""
    config = _config(modality, values)
    records, _ = _read(modality, config, list(islice(modality.open_source(config).items(0), TRIED_ITEMS)))
    return len(records)


def _read(modality: Modality, config: Any, items: Sequence[Item]) -> tuple[list[Record], list[str]]:
    """What the reader makes of some of the items, and why it takes others not."""
    read = modality.reader(config)
    records, problems = [], []
    for item in items[:: max(1, len(items) // READ_ITEMS)]:
        try:
            if item.data is None:
                raise Rejected(item.refused or "it has no contents")
            records.append(read(item.data))
        except Exception as error:  # as in ingest, whatever a decoder raises speaks against the file
            problems.append(f"{item.key}: {refusal(error)}")
    return records, problems


@dataclass
class _Listing:
    """What the items of a source say without being read, and an even sample of them.

    Attributes:
        count: items seen.
        is_whole: whether these are all.
    """

    count: int = 0
    is_whole: bool = True
    classes: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    folds: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    sample: list[Item] = field(default_factory=list)

    def look(self, source: Source) -> None:
        """List a source; one that takes too long and knows its length is looked at in places."""
        began, draw = time.monotonic(), random.Random(0)
        room = SAMPLE_ITEMS
        for item in source.items(0):
            self._count(item)
            size = len(item.data) if isinstance(item.data, bytes) else getattr(item.data, "nbytes", 0)
            room = max(TRIED_ITEMS, min(room, SAMPLE_BYTES // max(size, 1)))
            place = len(self.sample) if len(self.sample) < room else draw.randrange(self.count)
            if place < len(self.sample):
                self.sample[place] = item
            elif place < room:
                self.sample.append(item)
            if time.monotonic() - began > LIST_S:
                self.is_whole = False
                break
        if not self.is_whole and source.total:
            self._look_in_places(source, source.total)

    def _look_in_places(self, source: Source, total: int) -> None:
        """Single items at equal distances, in place of those at the beginning, which may be of one class."""
        began = time.monotonic()
        self.count = 0
        for counter in (self.classes, self.splits, self.folds, self.texts, self.sample):
            counter.clear()
        starts = list(range(0, total, max(1, total // READ_ITEMS)))
        random.Random(0).shuffle(starts)
        for start in starts:
            for item in islice(source.items(start), 1):
                self._count(item)
                self.sample.append(item)
            if time.monotonic() - began > LIST_S:
                break

    def _count(self, item: Item) -> None:
        self.count += 1
        if item.label is not None:
            self.classes[item.label] += 1
        if item.split is not None:
            self.splits[item.split] += 1
        if item.fold is not None:
            self.folds[item.fold] += 1
        self.texts.update(item.texts.keys())
