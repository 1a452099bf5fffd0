"""What a fine-tuned model says of the items of a split.

Shapes: N items, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from d2v.distributed.environment import own_device
from d2v.finetuning import metrics
from d2v.finetuning.model import FinetunedModel
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit
from d2v.progress import Progress


@dataclass(frozen=True)
class Answers:
    """What a model says of some items.

    Attributes:
        predictions: one an item, as metrics take them.
        scores: (N, C) of all classes; None where the task has no classes.
    """

    predictions: Any
    scores: np.ndarray | None = None

    def for_metric(self, name: str) -> Any:
        """What a metric takes: scores or predictions."""
        return self.scores if metrics.metric(name).of_scores and self.scores is not None else self.predictions


def answer_and_loss(
    model: FinetunedModel, split: LabelledSplit, rows: np.ndarray, batch_size: int, heartbeat: Callable[[], None]
) -> tuple[Answers, float]:
    """What the model says of some rows, and its loss per unit, with augmentation, dropout and masks switched off.

    Args:
        model: in evaluation mode.
        split: whose rows.
        rows: at least one.
        batch_size: items at a time.
        heartbeat: called at every batch.
    """
    device, task, total, units = own_device(), model.task, 0.0, 0.0
    model, found, scores = model.to(device), [], []
    for begin in range(0, len(rows), batch_size):
        heartbeat()
        few = rows[begin : begin + batch_size]
        outputs, lengths = model.outputs(split.inputs(few))
        targets = task.targets(split, few).to(device)
        total += float(task.loss(outputs, targets, lengths))
        units += float(task.units(targets))
        found.append(task.predict(outputs, lengths))
        scores.append(task.scores(outputs, lengths))
    return Answers(_joined(found), None if scores[0] is None else _joined(scores)), total / units


def answer(model: FinetunedModel, split: LabelledSplit, rows: np.ndarray, batch_size: int) -> Answers:
    """What the model says of some rows."""
    (answers,) = answers_of(model, split, rows, batch_size, [model.task])
    return answers


def predict(model: FinetunedModel, split: LabelledSplit, rows: np.ndarray, batch_size: int) -> Any:
    """One prediction a row, as metrics take them."""
    return answer(model, split, rows, batch_size).predictions


def answers_of(
    model: FinetunedModel, split: LabelledSplit, rows: np.ndarray, batch_size: int, tasks: Sequence[Task]
) -> list[Answers]:
    """The answers by each task, all from the same outputs."""
    found: list[list[Any]] = [[] for _ in tasks]
    scores: list[list[Any]] = [[] for _ in tasks]
    with Progress("evaluate", len(rows)) as progress:
        for outputs, lengths in outputs_of(model, split, rows, batch_size):
            for number, task in enumerate(tasks):
                found[number].append(task.predict(outputs, lengths))
                scores[number].append(task.scores(outputs, lengths))
            progress.advance(len(outputs))
    return [
        Answers(_joined(predictions), None if of_classes[0] is None else _joined(of_classes))
        for predictions, of_classes in zip(found, scores, strict=True)
    ]


def outputs_of(
    model: FinetunedModel, split: LabelledSplit, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The head's outputs of some rows and their lengths, batch by batch."""
    model = model.to(own_device())
    for begin in range(0, len(rows), batch_size):
        yield model.outputs(split.inputs(rows[begin : begin + batch_size]))


def _joined(predictions: list[Any]) -> Any:
    if isinstance(predictions[0], np.ndarray):
        return np.concatenate(predictions)
    return [one for some in predictions for one in some]
