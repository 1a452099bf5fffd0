"""Regress the teacher's mean target of a sample from its masked view.

Shape legend: B samples, T tokens, D width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from d2v.config import TrainConfig
from d2v.config.objectives import PooledConfig
from d2v.data.batch import Batch
from d2v.modalities.base import Modality
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, is_padding
from d2v.models.targets import mean_std, regression_loss
from d2v.objectives.base import DrawMasks, LossOutput, ragged_masks
from d2v.objectives.self_distillation import SelfDistillation


class Pooled(SelfDistillation):
    """Hidden tokens become a learned vector; the mean of the outputs predicts the mean of the targets.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T).
    """

    def __init__(self, config: PooledConfig, student: Encoder, longest: int, draw: DrawMasks) -> None:
        super().__init__(config, student, longest)
        self.config, self._draw = config, draw
        self.mask_token = nn.Parameter(student.stem.mask_vector())
        self.head = nn.Linear(student.width, student.width)

    @classmethod
    def build(cls, config: PooledConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Pooled:
        """With the masks of the modality."""
        return cls(config, student, modality.max_tokens(recipe), partial(modality.draw_masks, recipe))

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample."""
        return ragged_masks(self.student, self._draw, batch, seed, device)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The sum over samples, as large as if each hidden token had its sample's loss: the engine divides by their
        number."""
        lengths = self.student.token_lengths(batch.lengths)
        local_BTD = self.student.stem(batch.inputs)
        target_BD = _pool(self.targets(self.teacher_local(batch.inputs, local_BTD), lengths), lengths)
        masked_BTD = torch.where(masks.is_masked.unsqueeze(-1), self.mask_token.to(local_BTD.dtype), local_BTD)
        prediction_BD = self.head(_pool(self.student.encode(masked_BTD, lengths).tokens, lengths))
        loss = regression_loss(prediction_BD, target_BD, self.config.loss) / len(target_BD)
        statistics = {
            "regression_loss": loss.detach(),
            "target_std": mean_std(target_BD),
            "pred_std": mean_std(prediction_BD.detach()),
        }
        return LossOutput(loss * masks.count, statistics)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Teacher forward and student forward and backward (two forwards) on all T tokens."""
        stem, forward = self.student.stem, self.student.flops(tokens)
        parts = {"stem": 4.0 * stem.local_flops(tokens), "teacher": forward, "student": 3.0 * forward, "decoder": 0.0}
        return parts | {"total": sum(parts.values())}


def _pool(x_BTD: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, D) the mean over tokens that are not padding."""
    if lengths is None:
        return x_BTD.mean(dim=1)
    padding_BT1 = is_padding(lengths, x_BTD.shape[1]).unsqueeze(-1)
    return x_BTD.masked_fill(padding_BT1, 0.0).sum(dim=1) / lengths[:, None]
