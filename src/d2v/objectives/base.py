"""What every objective is: the one module that the engine trains.

Shape legend: B samples, T tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2v.config import ObjectiveConfig
from d2v.data.batch import Batch
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.targets import make_targets
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
    """A student, its teacher and a loss.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
    """

    def __init__(self, config: ObjectiveConfig, student: Encoder, longest: int) -> None:
        super().__init__()
        self.student, self.longest = student, longest
        self.teacher = Teacher(student, config.ema.copied, config.ema.shared_local)
        self._targets, self._shared_local = config.targets, config.ema.shared_local

    @abstractmethod
    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """The batch's masks: a pure function of (seed, update, sample id, mask index)."""

    @abstractmethod
    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """One forward pass of teacher, student and loss."""

    @abstractmethod
    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Floating point operations of one training update per sample of `tokens` tokens: stem, teacher, student,
        decoder, total."""

    def update_teacher(self, decay: float) -> None:
        """The EMA step, after the optimiser's."""
        self.teacher.update(self.student, decay)

    @torch.no_grad()
    def teacher_local(self, inputs: Tensor, student_local_BTD: Tensor) -> Tensor:
        """(B, T, D) the local features that the teacher continues from: its own, or the student's if they share."""
        return student_local_BTD.detach() if self._shared_local else self.teacher.encoder.stem(inputs)

    @torch.no_grad()
    def targets(self, local_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, D) normalised average of the teacher's top layers on the whole sequence.

        Args:
            local_BTD: from `teacher_local`.
            lengths: (B,) tokens that are not padding, or None.
        """
        encoded = self.teacher.encoder.encode(local_BTD, lengths, activation=self._targets.activation)
        return make_targets(encoded.activations, self._targets, lengths)
