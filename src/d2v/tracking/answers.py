"""What a served fine-tuned model answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2v.finetuning.model import TunedModel
from d2v.finetuning.tasks.classification import Classification
from d2v.modalities import registry


def answers(model: TunedModel, items: Any) -> np.ndarray:
    """(n,) class names, texts or numbers, or (n, classes) logits where an item can have several classes.

    Args:
        model: encoder and head.
        items: raw items, as the modality's `to_inputs` takes them.

    Raises:
        DataError: items of another shape or type.
    """
    found = model.predict(registry.get(model.about["modality"]).to_inputs(items, dict(model.about)))
    if isinstance(model.task, Classification):
        return np.array([model.task.class_names[number] for number in found], dtype=np.str_)
    if isinstance(found, np.ndarray):
        return found.astype(np.float32)
    return np.array(list(found), dtype=np.str_)
