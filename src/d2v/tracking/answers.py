"""What a served fine-tuned model answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map

from d2v.data.batch import Inputs
from d2v.finetuning.model import TunedModel
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.regression import Regression


def answers(model: TunedModel, inputs: Inputs) -> list[Any]:
    """One answer an item: the name of its class, its text, its number, or {class: probability}."""
    found = model.predict(inputs)
    if isinstance(model.task, Classification):
        return [model.task.class_names[number] for number in found]
    if isinstance(model.task, Multilabel):
        shares = torch.as_tensor(found).sigmoid().tolist()
        return [dict(zip(model.task.class_names, row, strict=True)) for row in shares]
    return found.tolist() if isinstance(found, np.ndarray) else list(found)


def schema_of(task: Task) -> Schema:
    """The type of these answers, for the model's signature."""
    if isinstance(task, Multilabel):
        return Schema([ColSpec(Map(DataType.double))])
    return Schema([ColSpec(DataType.double if isinstance(task, Regression) else DataType.string)])
