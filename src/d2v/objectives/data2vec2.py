"""data2vec 2.0 (Baevski et al. 2022, "Efficient Self-supervised Learning with Contextualized Target
Representations for Vision, Speech and Language").

Shape legend: B samples, M masks per sample, R = B*M rows, T tokens, V visible, N masked of all rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2v.config import Data2Vec2Config, TrainConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MASK, STREAM_NOISE, fold_in, integers
from d2v.modalities.base import Modality
from d2v.models.decoders import ConvDecoder
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, is_padding, tokens_at
from d2v.models.targets import regression_loss, token_losses
from d2v.objectives.base import DrawMasks, LossOutput
from d2v.objectives.self_distillation import SelfDistillation

NOISE_TABLE_SIZE = 2**20


class NoiseTable(nn.Module):
    """Standard normal noise as windows of one fixed table, so that a row's noise is a function of its key.

    A generator per row would cost a kernel each; a table costs one gather (as in Salimans et al. 2017).
    """

    table: Tensor

    def __init__(self, longest: int, seed: int = 0) -> None:
        super().__init__()
        self.longest = longest
        size = max(NOISE_TABLE_SIZE, 8 * longest)
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(size, generator=generator, device="cpu")
        self.register_buffer("table", table, persistent=False)

    def forward(self, keys: Tensor, window: int) -> Tensor:
        """(R,) keys -> (R, window), at most as long as the longest, which begins with the same numbers."""
        windows = self.table.numel() - self.longest
        return self.table.as_strided((windows, window), (1, 1))[integers(keys, windows)]


class _Predicted(NamedTuple):
    """What one pass makes of a batch: predictions and targets at all masked tokens (N, D), their rows and positions
    (N,), the targets of the whole (B, T, D), and the student's extra tokens (R, E, D)."""

    prediction_ND: Tensor
    target_ND: Tensor
    row_N: Tensor
    at_N: Tensor
    target_BTD: Tensor
    extra_RED: Tensor


class Data2Vec2(SelfDistillation):
    """Encode the visible part under M masks, fill in with a decoder, regress the teacher's averaged layers.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        decoder: fills in what is masked.
        longest: T of the longest sequence.
        num_masked: T -> N, the same for every mask over so many tokens.
        draw: keys (R,), T, lengths (R,) or None -> is_masked (R, T).
        seed: of the decoder noise.
    """

    def __init__(
        self,
        config: Data2Vec2Config,
        student: Encoder,
        decoder: ConvDecoder,
        longest: int,
        num_masked: Callable[[int], int],
        draw: DrawMasks,
        seed: int = 0,
    ) -> None:
        super().__init__(config, student, longest)
        self.config, self.num_masked, self._draw = config, num_masked, draw
        self.decoder = decoder
        self.noise = NoiseTable(longest * student.width, seed)

    @classmethod
    def build(cls, config: Data2Vec2Config, student: Encoder, modality: Modality, recipe: TrainConfig) -> Data2Vec2:
        """With masks of the modality that mask as many tokens in every row, and a decoder over its grid."""
        decoder = ConvDecoder(student.width, config.decoder, modality.grid(recipe))
        num_masked, draw = partial(modality.num_masked, recipe), partial(modality.draw_masks, recipe)
        return cls(config, student, decoder, modality.max_tokens(recipe), num_masked, draw, recipe.seed)

    def _row_keys(self, stream: int, seed: int, update: int, sample_ids: Tensor, masks: int) -> Tensor:
        """(R,) one key for each mask of each sample."""
        clones = torch.arange(masks, device=sample_ids.device)
        return fold_in(seed, stream, update, sample_ids[:, None], clones).flatten()

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """M masks per sample. Without padding every row masks the same number of tokens."""
        sample_ids = batch.sample_ids.to(device)
        keys = self._row_keys(STREAM_MASK, seed, batch.update, sample_ids, self.config.masks_per_sample)
        tokens = self.student.stem.num_tokens(batch.inputs)
        lengths = self.student.token_lengths(batch.lengths)
        if lengths is None:
            is_masked = self._draw(keys, tokens, None)
            return Masks.with_equal_counts(is_masked, len(batch.sample_ids), self.num_masked(tokens))
        lengths = lengths.to(device)
        row_lengths = lengths.repeat_interleave(self.config.masks_per_sample)
        return Masks.with_padding(self._draw(keys, tokens, row_lengths), lengths, self.num_masked(tokens))

    def decoder_input(self, visible_RVD: Tensor, masks: Masks, noise_RTD: Tensor) -> Tensor:
        """Put visible outputs back at their positions, small Gaussian noise everywhere else: (R, T, D)."""
        visible_RVD = self.decoder.dropout(visible_RVD)
        noise_RTD = noise_RTD.to(visible_RVD.dtype)
        if masks.visible_lengths is not None:  # what stands at the positions of padding is no feature
            padding_RV1 = is_padding(masks.visible_lengths, visible_RVD.shape[1]).unsqueeze(-1)
            visible_RVD = visible_RVD.masked_fill(padding_RV1, 0.0)
        first_R1 = noise_RTD.shape[1] * torch.arange(len(noise_RTD), device=noise_RTD.device)[:, None]
        index = (first_R1 + masks.visible().flatten(0, 1)).flatten()
        return noise_RTD.flatten(0, 1).index_copy(0, index, visible_RVD.flatten(0, 1)).view_as(noise_RTD)

    def _noise(self, batch: Batch, tokens: int, masks: int | None = None) -> Tensor:
        """(R, T, D) what stands at masked tokens where the decoder begins; `masks` per sample, None: as in training."""
        masks = masks or self.config.masks_per_sample
        keys = self._row_keys(STREAM_NOISE, 0, batch.update, batch.sample_ids, masks)
        noise = self.noise(keys, tokens * self.student.width)
        return noise.unflatten(1, (tokens, -1)) * self.config.mask_noise_std

    def forward(self, batch: Batch, masks: Masks, noise_RTD: Tensor | None = None) -> LossOutput:
        """`noise_RTD` replaces the drawn decoder noise, for comparison with other implementations."""
        predicted = self._predict(batch, masks, noise_RTD)
        regression = regression_loss(predicted.prediction_ND, predicted.target_ND, self.config.loss)
        statistics = {"regression_loss": regression.detach() / masks.count}
        statistics |= self.statistics(predicted.prediction_ND, predicted.target_ND)
        statistics |= self._position_statistics(batch, predicted, masks)
        if self.config.cls_loss == 0.0:
            return LossOutput(regression, statistics)
        cls = self._cls_loss(predicted.extra_RED, predicted.target_BTD)
        statistics["cls_loss"] = cls.detach()
        return LossOutput(regression + self.config.cls_loss * masks.count * cls, statistics)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The regression loss of every masked token, for any number of masks per sample."""
        predicted = self._predict(batch, masks, None)
        return token_losses(predicted.prediction_ND, predicted.target_ND, self.config.loss)

    @torch.no_grad()
    def visible_features(self, batch: Batch, masks: Masks) -> Tensor:
        """Features of the visible tokens alone, at their places."""
        visible_BVD = self.student.encode(self.student.stem(batch.inputs), None, masks).tokens
        place = masks.visible().flatten(0, 1).unsqueeze(-1).expand_as(visible_BVD)
        return visible_BVD.new_zeros(*masks.is_masked.shape, visible_BVD.shape[-1]).scatter(1, place, visible_BVD)

    def _predict(self, batch: Batch, masks: Masks, noise_RTD: Tensor | None) -> _Predicted:
        """Targets of the whole, and what student and decoder make of what is visible."""
        rows, masks_per_sample = len(masks.is_masked), len(masks.is_masked) // len(batch.sample_ids)
        lengths = self.student.token_lengths(batch.lengths)
        local_BTD = self.student.stem(batch.inputs)
        target_BTD = self.targets(self.teacher_local(batch.inputs, local_BTD), lengths)
        encoded = self.student.encode(local_BTD, lengths, masks)
        noise_RTD = self._noise(batch, local_BTD.shape[1], masks_per_sample) if noise_RTD is None else noise_RTD
        filled_RTC = self.decoder.fill_in(self.decoder_input(encoded.tokens, masks, noise_RTD))

        if masks.masked_idx is not None:  # no wait for the device, as the number of masked tokens is known
            at_N = masks.masked_idx.flatten()
            row_N = torch.arange(rows, device=at_N.device).repeat_interleave(masks.masked_idx.shape[-1])
        else:
            row_N, at_N = masks.is_masked.nonzero(as_tuple=True)
        tokens = target_BTD.shape[1]
        prediction_ND = self.decoder.projection(tokens_at(filled_RTC, row_N * tokens + at_N))
        target_ND = tokens_at(target_BTD, row_N // masks_per_sample * tokens + at_N)
        return _Predicted(prediction_ND, target_ND, row_N, at_N, target_BTD, encoded.extra)

    def _position_statistics(self, batch: Batch, predicted: _Predicted, masks: Masks) -> dict[str, Tensor]:
        """Of each sample's first mask: the others have the same targets, and all of them cost M times as much."""
        (samples, tokens, _), row_N = predicted.target_BTD.shape, predicted.row_N
        masks_per_sample = len(masks.is_masked) // samples
        if masks.masked_idx is not None:  # no wait for the device
            first = torch.arange(len(row_N), device=row_N.device).view(samples, masks_per_sample, -1)[:, 0].flatten()
        else:
            first = (row_N % masks_per_sample == 0).nonzero().squeeze(1)
        lengths = self.student.token_lengths(batch.lengths)
        return self.position_statistics(
            predicted.prediction_ND[first],
            predicted.target_ND[first],
            row_N[first] // masks_per_sample * tokens + predicted.at_N[first],
            predicted.target_BTD,
            None if lengths is None else ~is_padding(lengths, tokens),
        )

    def _cls_loss(self, extra_RED: Tensor, target_BTD: Tensor) -> Tensor:
        """Mean over rows of the loss between each CLS output and the mean target of its sample."""
        target_RD = target_BTD.mean(dim=1).repeat_interleave(self.config.masks_per_sample, dim=0)
        return regression_loss(extra_RED[:, -1], target_RD, self.config.loss) / len(target_RD)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Teacher forward on T tokens; M student and decoder passes, backward counted as two forwards."""
        student, stem = self.student, self.student.stem
        masks, masked = self.config.masks_per_sample, self.num_masked(tokens)
        parts = {
            "stem": (3.0 if self._ema.shared_local else 4.0) * stem.local_flops(tokens),
            "teacher": student.flops(tokens) + stem.positions_flops(tokens),
            "student": 3.0 * masks * (student.flops(tokens - masked) + stem.positions_flops(tokens)),
            "decoder": 3.0 * masks * self.decoder.flops(tokens, masked),
        }
        return parts | {"total": sum(parts.values())}
