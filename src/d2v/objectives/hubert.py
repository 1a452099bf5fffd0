"""HuBERT (Hsu et al. 2021, "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden
Units").

Shape legend: B samples, T frames, N selected frames of all samples, D width, F width of what is compared, K codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import HubertConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.errors import DataError
from d2v.modalities.base import Frames, LocalFrames, Modality
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected, is_padding
from d2v.models.ops import Dropout
from d2v.models.quantizer import perplexity, shares
from d2v.objectives.base import DrawMasks, LossOutput, mask_keys
from d2v.objectives.masked_prediction import MaskedPrediction
from d2v.objectives.wav2vec2 import feature_penalty


class Hubert(MaskedPrediction):
    """Replace masked frames by a learned vector, encode the full sequence, name the clusters of masked frames.

    A batch's `targets` are the clusters, (B, T') int64. Frames beyond T' have none and are left out.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
        frames: makes local features.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.
    """

    needs = "frames"

    def __init__(self, config: HubertConfig, student: Encoder, longest: int, frames: Frames, draw: DrawMasks) -> None:
        super().__init__(student, longest, draw)
        self.config, self.frames = config, frames
        self.projection = nn.Linear(student.width, config.projection_width)
        self.codes = nn.Parameter(torch.rand(config.codes, config.projection_width))
        self.dropout = Dropout(config.feature_dropout)

    @classmethod
    def build(cls, config: HubertConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Hubert:
        """With the masks and the local features of the modality."""
        frames, draw = cls.supply(modality, recipe), partial(modality.draw_masks, recipe)
        return cls(config, student, modality.max_tokens(recipe), frames, draw)

    def heads(self) -> Iterable[nn.Parameter]:
        """The projection and the clusters' vectors."""
        return (*self.projection.parameters(), self.codes)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample, of the frames that have a cluster."""
        if batch.targets is None:
            return super().draw_masks(batch, seed, device)
        tokens, lengths = batch.targets.shape[1], self._lengths(batch, device)
        return Masks.ragged(self._draw(mask_keys(batch, seed, device), tokens, lengths))

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The cross-entropy of clusters at masked frames (section II-B), and the feature penalty.

        Raises:
            DataError: the batch has no clusters.
        """
        if batch.targets is None:
            raise DataError("HuBERT learns clusters, and this batch has none: set prepare.codebook, and prepare again")
        c, lengths = self.config, self._lengths(batch, batch.inputs.device)
        local = self._local(batch.inputs, batch.targets.shape[1])
        some, is_masked_N = self._scored(masks, lengths)
        features_ND = self.features_of(some, self.dropout(local.projected_BTD), masks, lengths)
        logits_NK = some.without_fill(self.logits(features_ND))
        codes_N = some.without_fill(some.of(batch.targets))
        losses_N = F.cross_entropy(logits_NK, codes_N, reduction="none")
        weights_N = torch.where(is_masked_N, c.masked_weight, c.unmasked_weight)
        penalty = feature_penalty(local.raw_BTC, masks.is_masked, lengths)
        named_N = logits_NK.detach().argmax(dim=-1)
        statistics = {
            "code_loss": (losses_N.detach() * is_masked_N).sum() / masks.count,
            "feature_penalty": penalty.detach() / masks.count,
            "accuracy": ((named_N == codes_N) & is_masked_N).sum() / masks.count,
            "code_perplexity": perplexity(shares(codes_N, c.codes)),
            "named_perplexity": perplexity(shares(named_N, c.codes)),
        }
        return LossOutput((losses_N * weights_N).sum() + c.penalty_weight * penalty, statistics)

    def logits(self, features_ND: Tensor) -> Tensor:
        """(N, K) cosines of projected features and clusters over the temperature, in at least float32."""
        projected_NF = self.projection(features_ND)
        wide = torch.promote_types(projected_NF.dtype, torch.float32)
        with torch.autocast(projected_NF.device.type, enabled=False):
            cosine_NK = F.normalize(projected_NF.to(wide), dim=-1) @ F.normalize(self.codes.to(wide), dim=-1).T
        return cosine_NK / self.config.temperature

    def _local(self, inputs: Tensor, tokens: int) -> LocalFrames:
        """Local features of the first `tokens` frames."""
        local = self.frames.make(self.student, inputs, self.config.feature_gradient)
        return LocalFrames(*(x[:, :tokens] for x in (local.raw_BTC, local.normal_BTC, local.projected_BTD)))

    def _lengths(self, batch: Batch, device: torch.device | str) -> Tensor | None:
        """(B,) frames that are not padding and have a cluster."""
        lengths = None if batch.lengths is None else self.student.token_lengths(batch.lengths.to(device))
        return lengths if lengths is None or batch.targets is None else lengths.clamp(max=batch.targets.shape[1])

    def _scored(self, masks: Masks, lengths: Tensor | None) -> tuple[Selected, Tensor]:
        """The frames whose loss counts, and (N,) bool, whether they are masked."""
        if not self.config.unmasked_weight:
            masked = Selected.masked(masks)
            return masked, torch.ones(len(masked.index) - masked.fill, dtype=torch.bool, device=masked.index.device)
        rows, tokens = masks.is_masked.shape
        real = torch.ones_like(masks.is_masked) if lengths is None else ~is_padding(lengths, tokens)
        some = Selected(real.flatten().nonzero().squeeze(1), rows, tokens)
        return some, some.of(masks.is_masked)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """As every masked prediction; at all frames where those that are not masked count, too."""
        return self.count_flops(tokens, tokens) if self.config.unmasked_weight else super().flops_per_sample(tokens)
