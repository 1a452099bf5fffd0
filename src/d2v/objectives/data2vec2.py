"""data2vec 2.0 (Baevski et al. 2022, "Efficient Self-supervised Learning with Contextualized Target
Representations for Vision, Speech and Language").

Shape legend: B samples, M masks per sample, R = B*M rows, T tokens, V visible, N hidden, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from d2v.config import Data2Vec2Config
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MASK, STREAM_NOISE, integers, mix
from d2v.models.decoder import ConvDecoder
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.targets import make_targets, mean_std, regression_loss
from d2v.models.teacher import Teacher
from d2v.objectives.base import LossOutput, Objective

NOISE_TABLE_SIZE = 2**20


class NoiseTable(nn.Module):
    """Standard normal noise as windows of one fixed table, so that a row's noise is a function of its key.

    A generator per row would cost a kernel each; a table costs one gather (as in Salimans et al. 2017).
    """

    table: Tensor

    def __init__(self, window: int, seed: int = 0) -> None:
        super().__init__()
        self.window = window
        size = max(NOISE_TABLE_SIZE, 8 * window)
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(size, generator=generator, device="cpu")
        self.register_buffer("table", table, persistent=False)

    def forward(self, keys: Tensor) -> Tensor:
        """(R,) keys -> (R, window)."""
        offsets = integers(keys, self.table.numel() - self.window)
        return self.table.as_strided((self.table.numel() - self.window, self.window), (1, 1))[offsets]


class Data2Vec2(Objective):
    """Encode the visible part under M masks, fill in with a decoder, regress the teacher's averaged layers.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        decoder: fills in what is hidden.
        tokens: T.
        hidden: N, the same for every mask.
        draw: keys (R,) -> is_masked (R, T).
        seed: of the decoder noise.
    """

    def __init__(
        self,
        config: Data2Vec2Config,
        student: Encoder,
        decoder: ConvDecoder,
        tokens: int,
        hidden: int,
        draw: Callable[[Tensor], Tensor],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.tokens, self.hidden, self._draw = config, tokens, hidden, draw
        self.student = student
        self.decoder = decoder
        self.teacher = Teacher(student, config.ema.copied)
        self.noise = NoiseTable(tokens * student.width, seed)

    def _row_keys(self, stream: int, seed: int, update: int, sample_ids: Tensor) -> Tensor:
        """(R,) one key for each mask of each sample."""
        clones = torch.arange(self.config.masks_per_sample, device=sample_ids.device)
        return mix(seed, stream, update, sample_ids[:, None], clones).flatten()

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """M masks per sample with exactly `hidden` tokens each."""
        keys = self._row_keys(STREAM_MASK, seed, batch.update, batch.sample_ids.to(device))
        return Masks.with_equal_counts(self._draw(keys), len(batch.sample_ids), self.hidden)

    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T, D) normalised average of the teacher's top layers on the whole input."""
        teacher = self.teacher.encoder
        with torch.no_grad():
            encoded = teacher.encode(teacher.stem(inputs), activation=self.config.targets.activation)
        return make_targets(encoded.activations, self.config.targets)

    def decoder_input(self, visible_RVD: Tensor, visible_idx: Tensor, noise_RTD: Tensor) -> Tensor:
        """Put visible outputs back in their places, small Gaussian noise everywhere else: (R, T, D)."""
        visible_RVD = self.decoder.dropout(visible_RVD)
        place = visible_idx.flatten(0, 1).unsqueeze(-1).expand_as(visible_RVD)
        return noise_RTD.to(visible_RVD.dtype).scatter(1, place, visible_RVD)

    def _noise(self, batch: Batch) -> Tensor:
        keys = self._row_keys(STREAM_NOISE, 0, batch.update, batch.sample_ids)
        return self.noise(keys).unflatten(1, (self.tokens, -1)) * self.config.mask_noise_std

    def forward(self, batch: Batch, masks: Masks, noise_RTD: Tensor | None = None) -> LossOutput:
        """`noise_RTD` replaces the drawn decoder noise, for comparison with other implementations."""
        target_BTD = self.targets(batch.inputs)
        visible_idx, masked_idx = masks.indices()
        encoded = self.student.encode(self.student.stem(batch.inputs), visible_idx)
        noise_RTD = self._noise(batch) if noise_RTD is None else noise_RTD
        filled_RTC = self.decoder.fill_in(self.decoder_input(encoded.tokens, visible_idx, noise_RTD))

        rows = torch.arange(len(filled_RTC), device=filled_RTC.device)[:, None]
        masked_RN = masked_idx.flatten(0, 1)
        prediction_RND = self.decoder.projection(filled_RTC[rows, masked_RN])
        target_RND = target_BTD[rows // self.config.masks_per_sample, masked_RN]
        regression = regression_loss(prediction_RND, target_RND, self.config.loss)
        statistics = {
            "regression_loss": regression.detach() / masks.count,
            "target_std": mean_std(target_RND.detach().flatten(0, 1)),
            "pred_std": mean_std(prediction_RND.detach().flatten(0, 1)),
        }
        if self.config.cls_loss == 0.0:
            return LossOutput(regression, statistics)
        cls = self._cls_loss(encoded.extra, target_BTD)
        statistics["cls_loss"] = cls.detach()
        return LossOutput(regression + self.config.cls_loss * masks.count * cls, statistics)

    def _cls_loss(self, extra_RED: Tensor, target_BTD: Tensor) -> Tensor:
        """Mean over rows of the loss between each CLS output and the mean target of its sample."""
        target_RD = target_BTD.mean(dim=1).repeat_interleave(self.config.masks_per_sample, dim=0)
        return regression_loss(extra_RED[:, -1], target_RD, self.config.loss) / len(target_RD)

    def flops_per_sample(self) -> dict[str, float]:
        """Teacher forward on T tokens; M student and decoder passes, backward counted as two forwards."""
        masks = self.config.masks_per_sample
        parts = {
            "teacher": self.student.flops(self.tokens),
            "student": 3.0 * masks * self.student.flops(self.tokens - self.hidden),
            "decoder": 3.0 * masks * self.decoder.flops(self.tokens),
        }
        return parts | {"total": sum(parts.values())}
