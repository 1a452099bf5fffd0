"""Predictions as people read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel


def answers(task: Task, found: Any) -> list[Any]:
    """One answer an item: the name of its class, its text, its number, or {class: probability}.

    Args:
        task: whose predictions.
        found: what its `predict` gave.
    """
    if isinstance(task, Classification):
        return [task.class_names[number] for number in found]
    if isinstance(task, Multilabel):
        shares = torch.as_tensor(found).sigmoid().tolist()
        return [dict(zip(task.class_names, row, strict=True)) for row in shares]
    return found.tolist() if isinstance(found, np.ndarray) else list(found)
