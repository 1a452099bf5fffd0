"""Answers of a model with classes, class by class: counts, recalls with intervals.

Shapes: N items, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from d2v.data.prepared import UNLABELLED
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Multilabel
from d2v.modalities.base import LabelledSplit
from d2v.reporting.tables import Table
from d2v.statistics import accuracy_interval

PER_CLASS = "per_class.csv"
MOST_ROWS = 60


@dataclass(frozen=True)
class ClassResult:
    """One class. What cannot be measured without items or predictions of the class is NaN.

    Attributes:
        name: of the class.
        train_items: training items of the class.
        test_items: of the items that were measured.
        predicted: items that the model says are of the class.
        precision: share of these that are.
        recall: share of the class's items that the model finds, with a 95 % interval.
        f1: harmonic mean of the two.
    """

    name: str
    train_items: int
    test_items: int
    predicted: int
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float


def has_class(classes: np.ndarray, count: int) -> np.ndarray:
    """(N, C) bool, whether an item has a class, from class ids (N,) or labels (N, C) of 0 and 1."""
    return classes[:, None] == np.arange(count) if classes.ndim == 1 else classes > 0


def class_results(
    names: Sequence[str], train_items_C: np.ndarray, predictions: np.ndarray, references: np.ndarray, resamples: int
) -> list[ClassResult]:
    """Every class.

    Args:
        names: of the classes.
        train_items_C: training items of each.
        predictions, references: class ids (N,), or labels (N, C) of 0 and 1.
        resamples: of the bootstrap over the class's items.
    """
    given_NC, true_NC = has_class(predictions, len(names)), has_class(references, len(names))
    results = []
    for number, name in enumerate(names):
        given, true = given_NC[:, number], true_NC[:, number]
        right, found = int((given & true).sum()), int(given.sum())
        recall = accuracy_interval(given[true], resamples) if true.any() else None
        results.append(
            ClassResult(
                name,
                int(train_items_C[number]),
                int(true.sum()),
                found,
                right / found if found else np.nan,
                *((recall.value, recall.low, recall.high) if recall else (np.nan, np.nan, np.nan)),
                2 * right / (found + int(true.sum())) if found or true.any() else np.nan,
            )
        )
    return results


def write_class_results(results: Sequence[ClassResult], out: Path) -> Path:
    """Leave all of them as `out/per_class.csv`."""
    pd.DataFrame([asdict(one) for one in results]).to_csv(out / PER_CLASS, index=False)
    return out / PER_CLASS


def class_table(results: Sequence[ClassResult]) -> Table:
    """A row a class; of many classes those with the lowest recalls, lowest first."""
    shown = list(results)
    title = "Class by class"
    if len(shown) > MOST_ROWS:
        shown = sorted((one for one in results if one.test_items), key=lambda one: one.recall)[:MOST_ROWS]
        title = f"The {len(shown)} classes of the lowest recall, of {len(results):,} (all are in {PER_CLASS})"
    columns = ("class", "train items", "test items", "predicted", "precision", "recall (95% interval)", "F1")
    return Table(title, columns, tuple(_row(one) for one in shown))


def _row(one: ClassResult) -> tuple[str, ...]:
    recall = f"{one.recall:.3f} ({one.recall_low:.3f} to {one.recall_high:.3f})" if one.test_items else ""
    counts = (f"{count:,}" for count in (one.train_items, one.test_items, one.predicted))
    precision = f"{one.precision:.3f}" if one.predicted else ""
    return (one.name, *counts, precision, recall, "" if np.isnan(one.f1) else f"{one.f1:.3f}")


def train_counts(task: Task, split: LabelledSplit, rows: np.ndarray, count: int) -> np.ndarray:
    """(C,) training items of each class."""
    return has_class(np.asarray(task.references(split, rows)), count).sum(axis=0)


def majority_share(train_items_C: np.ndarray, references: np.ndarray) -> float:
    """Share of the items that are of the class with most training items: the accuracy of always naming it."""
    return float((references == int(np.argmax(train_items_C))).mean())


def labels_said(counts_C: np.ndarray, names: Sequence[str], most: int = 6) -> str:
    """Counts of classes in a few words, the largest first."""
    order = np.argsort(-counts_C, kind="stable")
    shown = ", ".join(f"{names[label]} {counts_C[label]:,}" for label in order[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def names_of(task: Task, classes: np.ndarray, names: Sequence[str]) -> list[str | None]:
    """Class ids (N,) or labels (N, C) as people read them; None for an item without a class, several names with commas
    between."""
    if isinstance(task, Multilabel):
        return [", ".join(names[number] for number in np.flatnonzero(row_C).tolist()) for row_C in classes]
    known = {UNLABELLED: None, **dict(enumerate(names))}
    return [known.get(int(label)) for label in classes]
