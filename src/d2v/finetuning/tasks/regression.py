"""A number an item, such as how alike two sentences are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import RegressionTask
from d2v.errors import DataError
from d2v.finetuning.heads import PooledHead
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit
from d2v.models.encoder import Encoder


class Regression(Task):
    """A number an item, by the squared error on a scale from 0 to 1.

    Args:
        config: the task's block of the recipe.
    """

    def __init__(self, config: RegressionTask) -> None:
        self.config, self.metrics = config, config.metrics

    def usable(self, split: LabelledSplit) -> np.ndarray:
        return np.flatnonzero(np.isfinite(_scores(split)))

    def make_head(self, encoder: Encoder) -> nn.Module:
        return PooledHead(self.config.head, encoder.width, 1, self.config.head.heads)

    def targets(self, split: LabelledSplit, rows: np.ndarray) -> Tensor:
        """(B,) numbers on a scale from 0 to 1."""
        lowest, highest = self.config.range
        return torch.from_numpy((_scores(split)[rows] - lowest) / (highest - lowest)).float()

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        return F.mse_loss(outputs[:, 0], targets, reduction="sum")

    def predict(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray:
        """(B,) numbers on the data's scale."""
        lowest, highest = self.config.range
        return outputs[:, 0].cpu().double().numpy() * (highest - lowest) + lowest

    def references(self, split: LabelledSplit, rows: np.ndarray) -> np.ndarray:
        return _scores(split)[rows]

    def describe(self) -> dict[str, Any]:
        return {}


def _scores(split: LabelledSplit) -> np.ndarray:
    if split.scores is None:
        raise DataError("The data has no scores to predict: set finetune.task.name=classification, or give others")
    return split.scores
