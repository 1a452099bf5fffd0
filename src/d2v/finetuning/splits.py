"""Which labelled items are trained on, which choose the best state of the run, and folds.

Shapes: n items of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from d2v.config import FinetuneConfig, ValidationConfig
from d2v.data import fingerprint
from d2v.data.batch import Inputs, SampleKeys
from d2v.errors import ConfigError, DataError
from d2v.finetuning.data import chosen_rows
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit, PreparedData

TRAIN, VAL, TEST = "train", "val", "test"
HELD_OUT_STREAM = 4
LEAST_TO_PART = 5
"""Items of a class from which at least one is held out."""


@dataclass(frozen=True)
class Chosen:
    """The items of a training.

    Attributes:
        train: split that is trained on.
        rows: ascending rows of it to train on.
        val: split that is validated on; None without validation.
        val_rows: ascending rows of it.
    """

    train: LabelledSplit
    rows: np.ndarray
    val: LabelledSplit | None = None
    val_rows: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Hash of both choices."""
        validation = [] if self.val_rows is None else self.val_rows.tolist()
        return fingerprint.of_values([self.rows.tolist(), validation])[:16]


def choose(splits: Mapping[str, LabelledSplit], task: Task, config: FinetuneConfig, data: PreparedData) -> Chosen:
    """The items to train on, and with `finetune.validation` those to validate on: the same whenever it is asked.

    Args:
        splits: the labelled splits of the prepared folder.
        task: which items it can use.
        config: the finetune block.
        data: the prepared folder, for groups.

    Raises:
        DataError: there are too few items.
        ConfigError: the items have no such group.
    """
    train = splits[TRAIN]
    rows = chosen_rows(train, task, config)
    if config.validation is None:
        return Chosen(train, rows)
    if config.validation.source == "auto" and VAL in splits and len(val_rows := task.usable(splits[VAL])):
        return Chosen(train, rows, splits[VAL], val_rows)
    is_held_out = held_out(train, rows, config.validation, data)
    return Chosen(train, rows[~is_held_out], train, rows[is_held_out])


def held_out(split: LabelledSplit, rows: np.ndarray, config: ValidationConfig, data: PreparedData) -> np.ndarray:
    """(len(rows),) bool: a share of the rows; whole groups, where there are some, else of each class as large a share.

    Raises:
        DataError: so few rows cannot be parted.
        ConfigError: the rows have no such group.
    """
    random = np.random.Generator(np.random.Philox(key=[config.seed, HELD_OUT_STREAM]))
    groups = _groups(split, rows, config, data)
    if groups is not None:
        names, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
        order = random.permutation(len(names))
        before = np.cumsum(counts[order]) - counts[order]
        chosen = order[before < config.share * len(rows)]
        is_held_out = np.isin(members, chosen)
    else:
        labels = split.labels[rows]
        is_held_out = np.zeros(len(rows), dtype=bool)
        for label in np.unique(labels):
            members = random.permutation(np.flatnonzero(labels == label))
            least = int(len(members) >= LEAST_TO_PART)
            is_held_out[members[: max(round(config.share * len(members)), least)]] = True
    if not is_held_out.any() or is_held_out.all():
        raise DataError(
            f"A share of {config.share:g} of {len(rows):,} training items cannot be held out"
            f"{' in whole groups' if groups is not None else ''}: give the source a val split or more items, or set "
            "finetune.validation=null"
        )
    return is_held_out


def _groups(split: LabelledSplit, rows: np.ndarray, config: ValidationConfig, data: PreparedData) -> np.ndarray | None:
    """What must be held out as a whole, by row; None for nothing. Items in no group are groups of their own."""
    values = column_of(split, config.group or "group", data)
    if values is None:
        if config.group is not None:
            raise ConfigError(_no_column("finetune.validation.group", config.group))
        return None
    return np.array([f"row {row}" if values[row] is None else f"group {values[row]}" for row in rows])


def column_of(split: LabelledSplit, name: str, data: PreparedData) -> list[str | None] | None:
    """What the corpus says of each item of a split in a column; None where it says nothing."""
    if isinstance(split, Joined):
        columns = [column_of(part, name, data) for part in split.parts]
        if all(column is None for column in columns):
            return None
        found = [column or [None] * len(part.labels) for column, part in zip(columns, split.parts, strict=True)]
        return [value for column in found for value in column]
    if isinstance(split, Subset):
        whole = column_of(split.split, name, data)
        return None if whole is None else [whole[row] for row in split.rows]
    part, rows = split.where
    table = data.items(part)
    if table is None or name not in table:
        return None
    values = [None if value is None or value != value else str(value) for value in table[name].tolist()]
    return [values[row] for row in rows] if any(value is not None for value in values) else None


def _no_column(key: str, name: str) -> str:
    return (
        f"{key}: the prepared items have no {name!r}. Name a column of the source in ingest.columns.group and ingest "
        "again; if an earlier version prepared them, remove the corpus and the prepared folder and run both steps again"
    )


# ---------------------------------------------------------------------------------------------- folds


def fold_names(splits: Mapping[str, LabelledSplit], column: str, data: PreparedData) -> list[str]:
    """The folds of all labelled items, in order.

    Raises:
        ConfigError: the items have no such column, or one fold alone.
    """
    values = column_of(_joined(splits), column, data)
    if values is None:
        raise ConfigError(_no_column("finetune.folds", column))
    names = sorted({value for value in values if value is not None}, key=lambda name: (len(name), name))
    if len(names) < 2:
        raise ConfigError(f"finetune.folds: all items are in one {column}: name another column, or set it to null")
    return names


def fold_of(
    splits: Mapping[str, LabelledSplit], column: str, name: str, data: PreparedData
) -> Mapping[str, LabelledSplit]:
    """The splits of one fold: its items are tested on, those of all other folds are trained on, whatever split the
    source has them in. Items in no fold are left out."""
    whole = _joined(splits)
    values = column_of(whole, column, data) or []
    train = [row for row, value in enumerate(values) if value not in (None, name)]
    test = [row for row, value in enumerate(values) if value == name]
    return {part: Subset(whole, np.array(rows, dtype=np.int64)) for part, rows in ((TRAIN, train), (TEST, test))}


def _joined(splits: Mapping[str, LabelledSplit]) -> Joined:
    return Joined(tuple(splits[name] for name in (TRAIN, VAL, TEST) if name in splits))


class _Rows:
    """Labels, scores, texts and durations of rows of other splits, in one order."""

    def _gather(self, name: str) -> Any:
        raise NotImplementedError

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) class ids, UNLABELLED without one."""
        labels: np.ndarray = self._gather("labels")
        return labels

    @cached_property
    def scores(self) -> np.ndarray | None:
        """(n,) numbers to predict; None where there are none."""
        return self._gather("scores")

    @cached_property
    def texts(self) -> Sequence[str | None]:
        """(n,) what was said, or the names of classes."""
        return self._gather("texts")

    @cached_property
    def seconds(self) -> np.ndarray | None:
        """(n,) how long recordings are; None for other data."""
        return self._gather("seconds")


@dataclass(frozen=True)
class Subset(_Rows):
    """Some rows of a split.

    Attributes:
        split: whose.
        rows: (n,) of it.
    """

    split: LabelledSplit
    rows: np.ndarray

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """Folder of the shards, and the rows there."""
        part, rows = self.split.where
        return part, rows[self.rows]

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Some items as they are."""
        return self.split.inputs(self.rows[rows])

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Items for training."""
        return self.split.augmented(SampleKeys(keys.update, self.rows[keys.indices], keys.epochs))

    def _gather(self, name: str) -> Any:
        values = getattr(self.split, name)
        if values is None or isinstance(values, np.ndarray):
            return None if values is None else values[self.rows]
        return [values[row] for row in self.rows]


@dataclass(frozen=True)
class Joined(_Rows):
    """Several splits, one after the other.

    Attributes:
        parts: the splits.
    """

    parts: tuple[LabelledSplit, ...]

    @cached_property
    def ends(self) -> np.ndarray:
        """(parts,) rows up to the end of each."""
        return np.cumsum([len(part.labels) for part in self.parts])

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """No folder holds them all."""
        return "", np.arange(self.ends[-1])

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Some items as they are."""
        return self._from_parts(rows, lambda part, chosen, inside: part.inputs(inside))

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Items for training."""
        return self._from_parts(
            keys.indices,
            lambda part, chosen, inside: part.augmented(SampleKeys(keys.update, inside, keys.epochs[chosen])),
        )

    def _from_parts(self, rows: np.ndarray, read: Any) -> Inputs:
        """Items that each part reads, in the order of the rows."""
        of_part = np.searchsorted(self.ends, rows, side="right")
        begins, order, found = np.append(0, self.ends[:-1]), [], []
        for number in np.unique(of_part):
            chosen = np.flatnonzero(of_part == number)
            order.append(chosen)
            found.append(read(self.parts[number], chosen, rows[chosen] - begins[number]))
        return side_by_side(found, np.argsort(np.concatenate(order)))

    def _gather(self, name: str) -> Any:
        found = [getattr(part, name) for part in self.parts]
        if found[0] is None or isinstance(found[0], np.ndarray):
            return None if found[0] is None else np.concatenate(found)
        return [value for values in found for value in values]


def side_by_side(several: Sequence[Inputs], order: np.ndarray) -> Inputs:
    """Inputs one after the other in a given order, padded with zeros to the longest."""
    import torch
    from torch.nn.functional import pad

    if all(one.lengths is None for one in several) and len({one.values.shape[1:] for one in several}) == 1:
        return Inputs(torch.cat([one.values for one in several])[order])
    longest = max(one.values.shape[1] for one in several)
    values, lengths = [], []
    for one in several:
        rest = [0, 0] * (one.values.ndim - 2)
        values.append(pad(one.values, [*rest, 0, longest - one.values.shape[1]]))
        full = torch.full((len(one),), one.values.shape[1], dtype=torch.int64)
        lengths.append(full if one.lengths is None else one.lengths)
    return Inputs(torch.cat(values)[order], torch.cat(lengths)[order])
