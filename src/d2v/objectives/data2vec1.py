"""data2vec 1.0 (Baevski et al. 2022, "data2vec: A General Framework for Self-supervised Learning in Speech,
Vision and Language").

Shape legend: B samples, T tokens, D width, N hidden tokens of all samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from d2v.config import Data2Vec1Config
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MASK, mix
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.targets import make_targets, mean_std, regression_loss
from d2v.models.teacher import Teacher
from d2v.objectives.base import LossOutput, Objective


class Data2Vec1(Objective):
    """Replace hidden tokens by a learned vector, encode the full sequence, regress the teacher's layers.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        tokens: T.
        draw: keys (B,) -> is_masked (B, T); rows may differ in their counts.
    """

    def __init__(
        self, config: Data2Vec1Config, student: Encoder, tokens: int, draw: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.config, self.tokens, self._draw = config, tokens, draw
        self.student = student
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, student.width), std=0.02))
        self.head = nn.Linear(student.width, student.width) if config.head == "linear" else nn.Identity()
        self.teacher = Teacher(student, config.ema.copied)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample."""
        return Masks.ragged(self._draw(mix(seed, STREAM_MASK, batch.update, batch.sample_ids.to(device))))

    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T, D) normalised average of the teacher's top layers on the whole input."""
        teacher = self.teacher.encoder
        with torch.no_grad():
            encoded = teacher.encode(teacher.stem(inputs), activation=self.config.targets.activation)
        return make_targets(encoded.activations, self.config.targets)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """One masked view of each sample against the teacher's view of the whole."""
        target_ND = self.targets(batch.inputs)[masks.is_masked]
        local_BTD = self.student.stem(batch.inputs)
        masked_BTD = torch.where(masks.is_masked.unsqueeze(-1), self.mask_token.to(local_BTD.dtype), local_BTD)
        prediction_ND = self.head(self.student.encode(masked_BTD).tokens[masks.is_masked])
        loss = regression_loss(prediction_ND, target_ND, self.config.loss)
        statistics = {
            "regression_loss": loss.detach() / masks.count,
            "target_std": mean_std(target_ND.detach()),
            "pred_std": mean_std(prediction_ND.detach()),
        }
        return LossOutput(loss, statistics)

    def flops_per_sample(self) -> dict[str, float]:
        """Teacher forward and student forward and backward (two forwards) on all T tokens."""
        forward = self.student.flops(self.tokens)
        return {"teacher": forward, "student": 3.0 * forward, "decoder": 0.0, "total": 4.0 * forward}
