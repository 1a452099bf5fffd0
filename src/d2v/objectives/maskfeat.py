"""MaskFeat (Wei et al. 2021, "Masked Feature Prediction for Self-Supervised Visual Pre-Training").

Shape legend: B samples, T tokens, D width, N masked tokens of all samples, P values that describe a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from d2v.config import MaskFeatConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.modalities.base import Descriptors, Modality
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.ops import LayerNorm
from d2v.objectives.base import DrawMasks, LossOutput, squared_error
from d2v.objectives.masked_prediction import MaskedPrediction

NORM_EPS = 1e-6


class MaskFeat(MaskedPrediction):
    """Replace masked tokens by a learned vector, encode the full sequence, regress what describes them.

    Args:
        student: the encoder to train.
        longest: T of the longest sequence.
        descriptors: makes the targets.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.
    """

    needs = "descriptors"

    def __init__(self, student: Encoder, longest: int, descriptors: Descriptors, draw: DrawMasks) -> None:
        super().__init__(student, longest, draw)
        self.descriptors = descriptors
        linear = nn.Linear(student.width, descriptors.values)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(LayerNorm(student.width, eps=NORM_EPS), linear)

    @classmethod
    def build(cls, config: MaskFeatConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> MaskFeat:
        """With the masks and the descriptors of the modality."""
        draw, descriptors = partial(modality.draw_masks, recipe), cls.supply(modality, recipe)
        return cls(student, modality.max_tokens(recipe), descriptors, draw)

    def heads(self) -> Iterable[nn.Parameter]:
        """LayerNorm and a linear layer."""
        return self.head.parameters()

    def target_flops(self, tokens: int) -> float:
        """Of the descriptors."""
        return self.descriptors.flops(tokens)

    @torch.no_grad()
    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T, P) descriptors of whole inputs, never in less than float32."""
        with torch.autocast(inputs.device.type, enabled=False):
            return self.descriptors.make(inputs)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The mean squared error of each masked token's descriptors (section 3.1), summed over them."""
        return squared_error("regression_loss", *self._at_masked(batch, masks), masks)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The mean squared error of every masked token."""
        return torch.sub(*self._at_masked(batch, masks)).square().mean(dim=1)

    def _at_masked(self, batch: Batch, masks: Masks) -> tuple[Tensor, Tensor]:
        """(N, P) predictions and targets at all masked tokens."""
        return self.head_and_targets(self.head, self.targets(batch.inputs), batch, masks)
