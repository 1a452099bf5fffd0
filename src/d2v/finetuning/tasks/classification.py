"""One class an item, or several.

Shape legend: B items, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import ClassificationTask, MultilabelTask
from d2v.data.prepared import UNLABELLED
from d2v.finetuning.heads import PooledHead, TokenHead
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit
from d2v.models.encoder import Encoder
from d2v.models.masking import is_padding


class Classification(Task):
    """One class an item, by cross entropy. Targets may be mixtures of classes.

    Args:
        config: the task's block of the recipe.
        class_names: by class id.
    """

    def __init__(self, config: ClassificationTask, class_names: Sequence[str]) -> None:
        self.config, self.class_names = config, tuple(class_names)
        self.metrics = config.metrics
        self.weights_C: Tensor | None = None

    def usable(self, split: LabelledSplit) -> np.ndarray:
        return np.flatnonzero(split.labels != UNLABELLED)

    def weigh(self, split: LabelledSplit, rows: np.ndarray) -> None:
        """Weights of items over the number of classes and the items of the class; 1 for a class without items."""
        counts_C = np.bincount(split.labels[rows], minlength=len(self.class_names))
        weights_C = len(rows) / np.maximum((counts_C > 0).sum() * counts_C, 1)
        self.weights_C = torch.from_numpy(np.where(counts_C > 0, weights_C, 1.0)).float()

    def make_head(self, encoder: Encoder) -> nn.Module:
        return PooledHead(self.config.head, encoder.width, len(self.class_names), self.config.head.heads)

    def targets(self, split: LabelledSplit, rows: np.ndarray) -> Tensor:
        """(B, C) probabilities of the classes, after label smoothing."""
        hot_BC = F.one_hot(torch.from_numpy(split.labels[rows]), len(self.class_names)).float()
        return hot_BC * (1.0 - self.config.label_smoothing) + self.config.label_smoothing / len(self.class_names)

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        weights_C = None if self.weights_C is None else self.weights_C.to(outputs.device)
        return F.cross_entropy(outputs, targets, weights_C, reduction="sum")

    def predict(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray:
        """(B,) class ids."""
        return outputs.argmax(dim=-1).cpu().numpy()

    def scores(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray:
        """(B, C) probabilities."""
        return outputs.softmax(dim=-1).cpu().numpy()

    def references(self, split: LabelledSplit, rows: np.ndarray) -> np.ndarray:
        return split.labels[rows]

    def describe(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}


class Multilabel(Task):
    """Any number of classes an item, as sound events in a recording. Every token says which classes it hears; a class
    is pooled over tokens by its own weight ("linear softmax", Wang et al. 2019, "A Comparison of Five Multiple Instance
    Learning Pooling Functions for Sound Event Detection"), and the loss is divided by the number of right classes.

    Args:
        config: the task's block of the recipe.
        class_names: by class id; the classes of an item are the names in its text, with commas between.

    Attributes:
        thresholds_C: least logits of the classes that an item is said to have, of a model that brings them along; see
            `d2v.finetuning.thresholds`.
    """

    def __init__(self, config: MultilabelTask, class_names: Sequence[str]) -> None:
        self.config, self.class_names = config, tuple(class_names)
        self.metrics = config.metrics
        self.positive_weights_C: Tensor | None = None
        self.thresholds_C: np.ndarray | None = None
        self._ids = {name: number for number, name in enumerate(self.class_names)}

    def usable(self, split: LabelledSplit) -> np.ndarray:
        return np.array([row for row, text in enumerate(split.texts) if text], dtype=np.int64)

    def weigh(self, split: LabelledSplit, rows: np.ndarray) -> None:
        """Items without a class over items with it, as weights of those that have it; 1 for a class without items."""
        positive_C = self.targets(split, rows).sum(dim=0)
        self.positive_weights_C = torch.where(positive_C > 0, (len(rows) - positive_C) / positive_C.clamp_min(1), 1.0)

    def make_head(self, encoder: Encoder) -> nn.Module:
        return TokenHead(encoder.width, len(self.class_names), self.config.dropout)

    def targets(self, split: LabelledSplit, rows: np.ndarray) -> Tensor:
        """(B, C) of 0 and 1."""
        hot_BC = torch.zeros(len(rows), len(self.class_names))
        for item, row in enumerate(rows):
            hot_BC[item, [self._ids[name] for name in names_in(split.texts[row]) if name in self._ids]] = 1.0
        return hot_BC

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        weights_C = None if self.positive_weights_C is None else self.positive_weights_C.to(outputs.device)
        logits_BC = pooled_logits(outputs, lengths)
        return F.binary_cross_entropy_with_logits(logits_BC, targets, reduction="sum", pos_weight=weights_C)

    def units(self, targets: Tensor) -> Tensor:
        return targets.count_nonzero().clamp_min(1)

    def predict(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray:
        """(B, C) logits."""
        return pooled_logits(outputs, lengths).cpu().numpy()

    def scores(self, outputs: Tensor, lengths: Tensor | None) -> np.ndarray:
        """The same logits."""
        return self.predict(outputs, lengths)

    def references(self, split: LabelledSplit, rows: np.ndarray) -> np.ndarray:
        return self.targets(split, rows).numpy().astype(np.int64)

    def describe(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}


def names_in(text: str | None) -> list[str]:
    """The class names that a text lists."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def pooled_logits(logits_BTC: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, C) logit of P = sum_t p_t^2 / sum_t p_t, from the logits of p_t, in log space."""
    log_p_BTC = F.logsigmoid(logits_BTC)
    if lengths is not None:
        padding_BT1 = is_padding(lengths, logits_BTC.shape[1]).unsqueeze(-1)
        log_p_BTC = log_p_BTC.masked_fill(padding_BT1, -torch.inf)
    log_pooled_BC = (2.0 * log_p_BTC).logsumexp(dim=1) - log_p_BTC.logsumexp(dim=1)
    return log_pooled_BC - torch.log(-torch.expm1(log_pooled_BC.clamp_max(-1e-7)))
