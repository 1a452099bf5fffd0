"""What objectives have in common whose targets are a teacher's features: both versions of data2vec.

Shape legend: B samples, T tokens, D width, N tokens that are selected.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from d2v.config import EmaConfig, TargetConfig
from d2v.models.encoder import Encoder
from d2v.models.masking import Selected
from d2v.models.position import position_share, predicted_beyond_position
from d2v.models.targets import make_targets, mean_std
from d2v.models.teacher import Teacher
from d2v.objectives.base import Pretraining


class HasTeacher(Protocol):
    """The block of a recipe that describes a teacher and what is made of its features."""

    @property
    def targets(self) -> TargetConfig: ...

    @property
    def ema(self) -> EmaConfig: ...


class SelfDistillation(Pretraining):
    """A student, the teacher that follows it, and a loss between the two.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
    """

    teacher: Teacher

    def __init__(self, config: HasTeacher, student: Encoder, longest: int) -> None:
        super().__init__(student, longest)
        self.teacher = Teacher(student, config.ema.copied, config.ema.shared_local)
        self._ema, self._targets = config.ema, config.targets

    def teacher_decay(self, update: int) -> float:
        """tau of the EMA step after optimiser update number `update`, from 1."""
        return self._ema.decay(update)

    def update_teacher(self, decay: float) -> None:
        """The EMA step, after the optimiser's."""
        self.teacher.update(self.student, decay)

    @torch.no_grad()
    def teacher_local(self, inputs: Tensor, student_local_BTD: Tensor) -> Tensor:
        """(B, T, D) the local features that the teacher continues from: its own, or the student's if they share."""
        return student_local_BTD.detach() if self._ema.shared_local else self.teacher.encoder.stem(inputs)

    @torch.no_grad()
    def targets(self, local_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, D) normalised average of the teacher's top layers on the whole sequence.

        Args:
            local_BTD: from `teacher_local`.
            lengths: (B,) tokens that are not padding, or None.
        """
        encoded = self.teacher.encoder.encode(local_BTD, lengths, activation=self._targets.activation)
        return make_targets(encoded.activations, self._targets, lengths)

    @torch.no_grad()
    def targets_of(self, some: Selected, local_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        """(N, D) the targets of some tokens. Where no norm looks at other tokens, others' are not computed."""
        if not self._targets.by_token:
            return some.of(self.targets(local_BTD, lengths))
        _, activations = self.teacher.encoder.encode_some(local_BTD, some, lengths, self._targets.activation)
        return make_targets(activations, self._targets)

    def statistics(self, prediction_ND: Tensor, target_ND: Tensor) -> dict[str, Tensor]:
        """What every log line says of predictions and their targets."""
        return {"target_std": mean_std(target_ND.detach()), "pred_std": mean_std(prediction_ND.detach())}

    def position_statistics(
        self, prediction_ND: Tensor, target_ND: Tensor, index_N: Tensor, target_BTD: Tensor, valid_BT: Tensor | None
    ) -> dict[str, Tensor]:
        """What position alone explains of the targets, and what predictions explain beyond it; empty for a single
        sample, which cannot tell.

        Args:
            prediction_ND, target_ND: at some tokens.
            index_N: sample * T + position of each; none is there twice.
            target_BTD: targets.
            valid_BT: where they are known; None: everywhere.
        """
        samples, tokens, _ = target_BTD.shape
        if samples < 2:
            return {}
        if "position" in self._targets.average_norms:  # it left none, but for what chance adds again
            share = torch.zeros((), device=target_BTD.device)
        else:
            share = position_share(target_BTD, valid_BT)
        beyond = predicted_beyond_position(prediction_ND.detach(), target_ND, index_N, samples, tokens)
        return {"target_position_share": share, "predicted_beyond_position": beyond}
