"""What a report shows of single answers: calibration, confusions, the worst errors, and the table of all predictions.

Shapes: N items, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from d2v.finetuning.classes import names_of
from d2v.finetuning.metrics import metric
from d2v.finetuning.predictions import Answers
from d2v.finetuning.splits import column_of
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.regression import Regression
from d2v.modalities.base import LabelledSplit, Modality, PreparedData
from d2v.modalities.corpus_page import examples_of
from d2v.reporting.page_parts import Gallery
from d2v.reporting.tables import Table

BINS = 15
MOST_CLASSES_DRAWN = 30
MOST_CONFUSIONS, MOST_ERRORS, MOST_SHOWN = 15, 24, 12
MOST_CHARACTERS = 120


# ------------------------------------------------------------------------------------------ calibration


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be believed.

    Attributes:
        bins: (mean confidence, share that is right, answers) of each bin that has some, least sure first.
        error: expected calibration error (Guo et al. 2017): the mean distance of the two, over all answers.
    """

    bins: tuple[tuple[float, float, int], ...]
    error: float


def calibration(confidence_N: np.ndarray, right_N: np.ndarray) -> Calibration:
    """Calibration in 15 bins of equal width.

    Args:
        confidence_N: probabilities that answers are right.
        right_N: whether they are.

    Example:
        >>> calibration(np.array([0.9, 0.9]), np.array([True, False])).error
        0.4
    """
    members = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    bins = [
        (float(confidence_N[members == one].mean()), float(right_N[members == one].mean()), int((members == one).sum()))
        for one in np.unique(members)
    ]
    error = sum(count * abs(sure - right) for sure, right, count in bins) / len(confidence_N)
    return Calibration(tuple(bins), float(error))


def calibration_of(task: Task, scores_NC: np.ndarray, references: np.ndarray) -> Calibration:
    """Of the named class of each item; of several labels an item, of all probabilities."""
    if isinstance(task, Multilabel):
        return calibration(probabilities(task, scores_NC).ravel(), references.ravel() > 0)
    return calibration(scores_NC.max(axis=1), scores_NC.argmax(axis=1) == references)


def probabilities(task: Task, scores_NC: np.ndarray) -> np.ndarray:
    """(N, C) in 0 to 1: scores of several labels are logits."""
    return torch.from_numpy(scores_NC).sigmoid().numpy() if isinstance(task, Multilabel) else scores_NC


# ------------------------------------------------------------------------------------------ confusions


def confusion(predictions_N: np.ndarray, references_N: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) items by true class (rows) and named class (columns); ids that are no class are left out."""
    known = (predictions_N < classes) & (references_N < classes)
    flat = references_N[known] * classes + predictions_N[known]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def drawn_classes(counts_CC: np.ndarray) -> np.ndarray:
    """The classes that a picture of the confusions has room for: those with the most errors, in their order."""
    errors_C = counts_CC.sum(axis=0) + counts_CC.sum(axis=1) - 2 * np.diag(counts_CC)
    return np.sort(np.argsort(-errors_C, kind="stable")[:MOST_CLASSES_DRAWN])


def confusion_table(counts_CC: np.ndarray, names: Sequence[str]) -> Table:
    """The most frequent confusions: true class, named class, items, and their share of the true class."""
    wrong_CC = counts_CC - np.diag(np.diag(counts_CC))
    order = np.argsort(-wrong_CC, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(one), len(names)) for one in order if wrong_CC.flat[one]]
    rows = tuple(
        (
            names[true],
            names[named],
            f"{wrong_CC[true, named]:,}",
            f"{wrong_CC[true, named] / counts_CC[true].sum():.1%}",
        )
        for true, named in pairs
    )
    return Table("Most frequent confusions", ("true class", "taken for", "items", "of the class"), rows, ("taken for",))


# ------------------------------------------------------------------------------------------ predictions


def prediction_table(
    task: Task,
    split: LabelledSplit,
    rows: np.ndarray,
    found: Mapping[str, Answers],
    references: Any,
    said_NC: np.ndarray | None,
    data: PreparedData,
) -> pd.DataFrame:
    """A row an item: `row` of the split, `file` and `split` of the corpus where they are known, `predicted` and `right`
    as metrics take them; of classes also `predicted_class`, `true_class`, the `score` of the predicted class and
    `scores`, probabilities in the order of the classes.

    Args:
        task: of the model.
        split: that was measured on.
        rows: of it.
        found: answers by the suffix of their column.
        references: right answers.
        said_NC: of several labels an item, those that the model says.
        data: the prepared folder, for names.
    """
    columns: dict[str, Any] = {"row": rows}
    for name, column in (("file", "key"), ("split", "split")):
        values = column_of(split, column, data)
        if values is not None:
            columns[name] = [values[row] for row in rows]
    columns |= {f"predicted{suffix}": list(answers.predictions) for suffix, answers in found.items()}
    columns["right"] = list(references)
    if isinstance(task, Classification | Multilabel):
        answers = found[""]
        assert answers.scores is not None
        scores_NC = probabilities(task, answers.scores)
        predicted = answers.predictions if said_NC is None else said_NC
        columns["predicted_class"] = names_of(task, predicted, task.class_names)
        columns["true_class"] = names_of(task, np.asarray(references), task.class_names)
        columns |= {"score": scores_NC.max(axis=1), "scores": list(scores_NC)}
    return pd.DataFrame(columns)


# ------------------------------------------------------------------------------------------ worst errors


def badness(task: Task, answers: Answers, references: Any) -> np.ndarray:
    """(N,) how bad each answer is; 0 and less: it is right.

    A wrong class counts by how sure the model is of it, several labels by their mean distance from the right ones, a
    number by its distance, a transcript by its word error rate.
    """
    if isinstance(task, Classification) and answers.scores is not None:
        right_N = answers.predictions == references
        return np.where(right_N, 0.0, answers.scores.max(axis=1))
    if isinstance(task, Multilabel) and answers.scores is not None:
        return np.abs(probabilities(task, answers.scores) - references).mean(axis=1)
    if isinstance(task, Regression):
        return np.abs(np.asarray(answers.predictions) - np.asarray(references))
    rate = metric("wer").compute
    return np.array([rate([said], [right]) for said, right in zip(answers.predictions, references, strict=True)])


def worst_errors(table: pd.DataFrame, badness_N: np.ndarray, task: Task) -> tuple[Table | None, np.ndarray]:
    """The worst answers, worst first, and their positions in the table of predictions; None if all are right."""
    order_N = np.argsort(-badness_N, kind="stable")[:MOST_ERRORS]
    worst = order_N[badness_N[order_N] > 0.0]
    if not len(worst):
        return None, worst
    right, said = _columns(task)
    rows = tuple(
        (
            str(table["file"].iloc[one]) if "file" in table else f"row {table['row'].iloc[one]}",
            _shown(table[right].iloc[one]),
            _shown(table[said].iloc[one]),
            f"{badness_N[one]:.3f}",
        )
        for one in worst
    )
    columns = ("item", "right", "predicted", "how wrong")
    return Table("Worst errors", columns, rows, texts=("right", "predicted")), worst


def gallery(
    modality: Modality,
    data: PreparedData,
    split: LabelledSplit,
    rows: np.ndarray,
    table: pd.DataFrame,
    worst: np.ndarray,
    task: Task,
) -> Gallery | None:
    """Thumbnails, players or texts of the worst answers; None where the corpus is not there any more.

    Args:
        modality: shows items.
        data: the prepared folder, which knows the corpus.
        split: that was measured on.
        rows: of it.
        table: of predictions.
        worst: positions in it, worst first.
        task: of the model.
    """
    items = column_of(split, "item", data)
    if items is None or data.corpus is None:
        return None
    right, said = _columns(task)
    few = worst[:MOST_SHOWN]
    captions = [f"{_shown(table[right].iloc[one])} \u2192 {_shown(table[said].iloc[one])}" for one in few]
    chosen = [int(items[rows[one]] or 0) for one in few]
    examples = examples_of(modality, data.corpus, chosen, captions)
    return Gallery((("Worst errors", "right \u2192 predicted, worst first", examples),)) if examples else None


def _columns(task: Task) -> tuple[str, str]:
    """Names of the columns with the right and the predicted answers as people read them."""
    has_names = isinstance(task, Classification | Multilabel)
    return ("true_class", "predicted_class") if has_names else ("right", "predicted")


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.3g}"
    text = "none" if value is None else str(value)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 3] + "..."
