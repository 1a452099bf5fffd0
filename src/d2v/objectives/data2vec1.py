"""data2vec 1.0 (Baevski et al. 2022, "data2vec: A General Framework for Self-supervised Learning in Speech,
Vision and Language").

Shape legend: B samples, T tokens, D width, N masked tokens of all samples.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from d2v.config import Data2Vec1Config, TrainConfig
from d2v.data.batch import Batch
from d2v.modalities.base import Modality
from d2v.models.blocks import bert_init
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected, gather_tokens
from d2v.models.ops import Linear
from d2v.models.position import spread
from d2v.models.shards import count_matmul_parameters
from d2v.models.targets import regression_loss, token_losses
from d2v.objectives.base import DrawMasks, LossOutput, mean_masked, ragged_masks
from d2v.objectives.self_distillation import SelfDistillation


class Data2Vec1(SelfDistillation):
    """Replace masked tokens by a learned vector, encode the full sequence, regress the teacher's layers.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.
    """

    def __init__(self, config: Data2Vec1Config, student: Encoder, longest: int, draw: DrawMasks) -> None:
        super().__init__(config, student, longest)
        self.config, self._draw = config, draw
        self.mask_token = nn.Parameter(student.stem.mask_vector())
        self.head = _make_head(config.head, student.width)

    @classmethod
    def build(cls, config: Data2Vec1Config, student: Encoder, modality: Modality, recipe: TrainConfig) -> Data2Vec1:
        """With the masks of the modality."""
        return cls(config, student, modality.max_tokens(recipe), partial(modality.draw_masks, recipe))

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample."""
        return ragged_masks(self.student, self._draw, batch, seed, device)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """One masked view of each sample against the teacher's view of the whole."""
        masked = Selected.masked(masks)
        prediction_ND, target_ND = self._at_masked(batch, masks, masked)
        loss = regression_loss(prediction_ND, target_ND, self.config.loss)
        statistics = {"regression_loss": loss.detach() / masks.count}
        statistics |= self.statistics(prediction_ND, target_ND)
        index_N, (samples, tokens) = masked.without_fill(masked.index), masks.is_masked.shape
        target_BTD, _ = spread(target_ND, index_N, samples, tokens)
        statistics |= self.position_statistics(prediction_ND, target_ND, index_N, target_BTD, masks.is_masked)
        return LossOutput(loss, statistics)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The regression loss of every masked token, one mask per sample."""
        return token_losses(*self._at_masked(batch, masks, Selected.masked(masks)), self.config.loss)

    @torch.no_grad()
    def visible_features(self, batch: Batch, masks: Masks) -> Tensor:
        """Features of the full sequence, with the mask vector at masked tokens."""
        return self.student.encode(self._masked(self.student.stem(batch.inputs), masks)).tokens

    def _masked(self, local_BTD: Tensor, masks: Masks) -> Tensor:
        return torch.where(masks.is_masked.unsqueeze(-1), self.mask_token.to(local_BTD.dtype), local_BTD)

    def _at_masked(self, batch: Batch, masks: Masks, masked: Selected) -> tuple[Tensor, Tensor]:
        """(N, D) predictions and targets at all masked tokens, without what fills them up."""
        lengths = self.student.token_lengths(batch.lengths)
        local_BTD = self.student.stem(batch.inputs)
        teacher_BTD = self.teacher_local(batch.inputs, local_BTD)
        if self.config.teacher_view == "hidden":
            target_ND = masked.of(self._targets_of_masked(teacher_BTD, masks.is_masked))
        else:
            target_ND = self.targets_of(masked, teacher_BTD, lengths)
        prediction_ND = self.head(self.student.encode_some(self._masked(local_BTD, masks), masked, lengths)[0])
        return masked.without_fill(prediction_ND), masked.without_fill(target_ND)

    def _targets_of_masked(self, local_BTD: Tensor, is_masked: Tensor) -> Tensor:
        """(B, T, D) targets at masked tokens from a teacher that sees nothing but them, closed up."""
        order_B1T = torch.argsort((~is_masked).to(torch.uint8), dim=1, stable=True).unsqueeze(1)
        closed_BTD = self.targets(gather_tokens(local_BTD, order_B1T), is_masked.sum(dim=1))
        return torch.zeros_like(closed_BTD).scatter(1, order_B1T[:, 0, :, None].expand_as(closed_BTD), closed_BTD)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Teacher forward and student forward and backward (two forwards) on all T tokens, but for the last block's
        projection and MLP and the head, which see masked ones, as many as masks mask in the mean."""
        stem, masked = self.student.stem, mean_masked(self._draw, tokens)
        some = masked if self._targets.by_token and self.config.teacher_view == "whole" else None
        placing, head = stem.positions_flops(tokens), 2.0 * masked * count_matmul_parameters(self.head.parameters())
        parts = {
            "stem": (3.0 if self._ema.shared_local else 4.0) * stem.local_flops(tokens),
            "teacher": self.student.flops(tokens, some) + placing,
            "student": 3.0 * (self.student.flops(tokens, masked) + placing + head),
            "decoder": 0.0,
        }
        return parts | {"total": sum(parts.values())}


def _make_head(kind: str, width: int) -> nn.Module:
    """From final features to predictions."""
    if kind == "linear":
        return Linear(width, width)
    if kind == "mlp":
        return nn.Sequential(Linear(width, 2 * width), nn.GELU(), Linear(2 * width, width)).apply(bert_init)
    return nn.Identity()
