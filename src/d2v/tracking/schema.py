"""The type of a served fine-tuned model's predictions."""

from __future__ import annotations

from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map

from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Multilabel
from d2v.finetuning.tasks.regression import Regression


def schema_of(task: Task) -> Schema:
    """The type of what `d2v.finetuning.model.decode` gives, for the model's signature."""
    if isinstance(task, Multilabel):
        return Schema([ColSpec(Map(DataType.double))])
    return Schema([ColSpec(DataType.double if isinstance(task, Regression) else DataType.string)])
