"""What every objective is: the one module that the engine trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2v.data.batch import Batch
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.teacher import Teacher


@dataclass(frozen=True)
class LossOutput:
    """The loss of one batch.

    Attributes:
        loss_sum: () sum over masked positions; the engine divides it by the global count.
        statistics: () detached figures for the log, already means.
    """

    loss_sum: Tensor
    statistics: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A student, its teacher and a loss."""

    student: Encoder
    teacher: Teacher

    @abstractmethod
    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """The batch's masks: a pure function of (seed, update, sample id, mask index)."""

    @abstractmethod
    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """One forward pass of teacher, student and loss."""

    @abstractmethod
    def flops_per_sample(self) -> dict[str, float]:
        """Floating point operations of one training update per sample: teacher, student, decoder, total."""

    def update_teacher(self, decay: float) -> None:
        """The EMA step, after the optimiser's."""
        self.teacher.update(self.student, decay)
