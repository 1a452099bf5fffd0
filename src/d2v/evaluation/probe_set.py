"""Probe sets: whether accuracies can be measured on them, and subsets of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from d2v.modalities.base import ProbeSet

HELD_OUT_EVERY = 10


def why_not_probed(probe_set: ProbeSet) -> str | None:
    """Why no accuracy can be measured on these items; None if it can."""
    classes = int(probe_set.train_labels[probe_set.train_labels >= 0].unique().numel())
    if classes == 0:
        return "the data has no labels, so no accuracy can be measured: give the source class folders or labels"
    if classes == 1:
        return "all labelled train items of the probe set belong to one class, so no accuracy can be measured"
    if not bool((probe_set.test_labels >= 0).any()):
        return "the probe set has no labelled test items, so no accuracy can be measured: raise their number in prepare"
    return None


def labelled(probe_set: ProbeSet) -> ProbeSet:
    """The items that have a label."""
    train, test = probe_set.train_labels >= 0, probe_set.test_labels >= 0
    return _select(probe_set, train.nonzero().flatten(), test.nonzero().flatten())


def largest_class(probe_set: ProbeSet) -> int:
    """The class of most train items."""
    return int(probe_set.train_labels[probe_set.train_labels >= 0].bincount().argmax())


def smaller(probe_set: ProbeSet, train_items: int, test_items: int, seed: int = 0) -> ProbeSet:
    """At most so many items of each split, always the same ones, as copies that do not hold the whole in memory."""
    train = some_rows(len(probe_set.train_labels), train_items, seed)
    return _select(probe_set, train, some_rows(len(probe_set.test_labels), test_items, seed))


def with_test_items(probe_set: ProbeSet) -> ProbeSet:
    """The same set; where it has no test items, one in ten train items becomes one, always the same."""
    if len(probe_set.test_labels):
        return probe_set
    count = len(probe_set.train_labels)
    rows = torch.arange(count)
    is_test = torch.zeros(count, dtype=torch.bool)
    is_test[some_rows(count, -(-count // HELD_OUT_EVERY), seed=2)] = True
    return replace(
        _select(probe_set, rows[~is_test], rows[:0]),
        test_inputs=probe_set.train_inputs.subset(rows[is_test]),
        test_labels=probe_set.train_labels[is_test],
    )


def within_train(probe_set: ProbeSet) -> ProbeSet:
    """The train items alone, one in ten of them as a test item: for what is looked at while training goes on, so
    that the test items are touched once, at the end."""
    none = torch.zeros(0, dtype=torch.int64)
    return with_test_items(_select(probe_set, torch.arange(len(probe_set.train_labels)), none))


def some_rows(rows: int, most: int, seed: int = 0) -> Tensor:
    """(min(rows, most),) int64 rows in ascending order, chosen by `seed` alone."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def _select(probe_set: ProbeSet, train: Tensor, test: Tensor) -> ProbeSet:
    return replace(
        probe_set,
        train_inputs=probe_set.train_inputs.subset(train),
        train_labels=probe_set.train_labels[train],
        test_inputs=probe_set.test_inputs.subset(test),
        test_labels=probe_set.test_labels[test],
    )
