"""Thresholds of a model of several labels: from which score on an item is said to have a class.

They are chosen when the fine-tuning is finished, and lie beside the model's weights in `thresholds.json`.

Shapes: N items, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from d2v.config import FinetuneConfig, MultilabelTask
from d2v.data import digests
from d2v.data.disk import write_json
from d2v.finetuning.model import THRESHOLDS, FinetunedModel, load_finetuned
from d2v.finetuning.predictions import predict
from d2v.finetuning.splits import Chosen
from d2v.finetuning.tasks.classification import Multilabel


def thresholds_of(model: FinetunedModel, chosen: Chosen, config: FinetuneConfig) -> np.ndarray:
    """Least logits (C,) of the classes that an item is said to have: those that the recipe asks for.

    Args:
        model: of several labels.
        chosen: the items that it was trained and validated on.
        config: the finetune block; with `task.thresholds: half` all are 0, a probability of one half.
    """
    task = model.task
    assert isinstance(task, Multilabel)
    if not isinstance(config.task, MultilabelTask) or config.task.thresholds == "half":
        return np.zeros(len(task.class_names))
    if task.thresholds_C is not None:
        return task.thresholds_C
    split, rows = chosen.train, chosen.rows
    if chosen.val is not None and chosen.val_rows is not None:
        split, rows = chosen.val, chosen.val_rows
    labels_NC = np.asarray(task.references(split, rows))
    return best_thresholds(predict(model, split, rows, config.evaluation_batch_size), labels_NC)


def keep_thresholds(folder: Path, chosen: Chosen, config: FinetuneConfig) -> None:
    """Leave the thresholds of a finished fine-tuning in its model folder, if the recipe asks for some and they are not
    there. `load_finetuned` reads them.

    Args:
        folder: of the model.
        chosen, config: as of `thresholds_of`.
    """
    assert isinstance(config.task, MultilabelTask)
    if config.task.thresholds == "half":
        digests.remove(folder, THRESHOLDS)
        return
    model = load_finetuned(folder)
    assert isinstance(model.task, Multilabel)
    if model.task.thresholds_C is None:
        thresholds_C = thresholds_of(model, chosen, config)
        write_json(folder / THRESHOLDS, dict(zip(model.task.class_names, thresholds_C.tolist(), strict=True)))
        digests.add(folder, THRESHOLDS)


def best_thresholds(scores_NC: np.ndarray, labels_NC: np.ndarray) -> np.ndarray:
    """(C,) the least score of each class at which its F1 is best; 0, a probability of one half as a logit, for a class
    that no item has.

    Args:
        scores_NC: logits of items that are not those that the model is measured on.
        labels_NC: 0 and 1.
    """
    thresholds_C = np.zeros(scores_NC.shape[1])
    for number, (scores_N, labels_N) in enumerate(zip(scores_NC.T, labels_NC.T, strict=True)):
        if labels_N.any():
            order_N = np.argsort(-scores_N, kind="stable")
            right_N = np.cumsum(labels_N[order_N])
            f1_N = 2 * right_N / (np.arange(1, len(order_N) + 1) + labels_N.sum())
            is_last_N = np.append(np.diff(scores_N[order_N]) < 0, True)  # equal scores are taken together
            best = int(np.argmax(np.where(is_last_N, f1_N, -1.0)))
            after = scores_N[order_N[best + 1]] if best + 1 < len(order_N) else scores_N[order_N[best]]
            thresholds_C[number] = (scores_N[order_N[best]] + after) / 2
    return thresholds_C


def above(scores_NC: np.ndarray, thresholds_C: np.ndarray) -> np.ndarray:
    """(N, C) int64 labels that the scores reach the thresholds of."""
    return (scores_NC >= thresholds_C).astype(np.int64)
