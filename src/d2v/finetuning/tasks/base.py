"""The interface of a task: a head, targets, a loss, predictions and their metrics.

Shape legend: B items, T tokens, C outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2v.modalities.base import LabelledSplit
from d2v.models.encoder import Encoder


class Task(ABC):
    """One task on one data set.

    Attributes:
        metrics: names of `d2v.finetuning.metrics`, the first being what models are compared by.
    """

    metrics: tuple[str, ...]

    @abstractmethod
    def usable(self, split: LabelledSplit) -> np.ndarray:
        """Ascending rows of a split that have what the task needs."""

    def announce(self, split: LabelledSplit, rows: np.ndarray) -> None:
        """Log which of the rows to train on cannot be learned."""
        return

    def weigh(self, split: LabelledSplit, rows: np.ndarray) -> None:
        """Weigh the classes in the loss against how often the training rows have them; tasks with classes do."""
        return

    @abstractmethod
    def make_head(self, encoder: Encoder) -> nn.Module:
        """(Encoded, token lengths) -> outputs; drawn from torch's generator."""

    @abstractmethod
    def targets(self, split: LabelledSplit, rows: np.ndarray) -> Tensor:
        """Targets of these rows, for the loss."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        """() sum over items; `units` is what it is divided by.

        Args:
            outputs: of the head, in float32.
            targets: of the same items.
            lengths: (B,) tokens that are not padding, or None.
        """

    def units(self, targets: Tensor) -> Tensor:
        """() how many units the loss is a sum of: items, unless a task says otherwise."""
        return torch.tensor(len(targets), device=targets.device)

    @abstractmethod
    def predict(self, outputs: Tensor, lengths: Tensor | None) -> Sequence[Any] | np.ndarray:
        """One prediction an item, as metrics take them."""

    def scores(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray | None:
        """(B, C) scores of all classes, higher for likelier ones; None where the task has no classes."""
        return None

    @abstractmethod
    def references(self, split: LabelledSplit, rows: np.ndarray) -> Sequence[Any] | np.ndarray:
        """The right predictions, as metrics take them."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that travel with a model, and from which `build_task.restore_task` makes the task."""
