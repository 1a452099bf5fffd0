"""Masked autoencoders (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners").

Shape legend: B samples, T tokens, V visible, N masked tokens of all samples, D width, P values of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from d2v.config import MaeConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.modalities.base import Modality, Patches
from d2v.models.decoders import MaeDecoder
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected
from d2v.objectives.base import DrawMasks, LossOutput, Pretraining, mask_keys, squared_error

VARIANCE_EPS = 1e-6


class Mae(Pretraining):
    """Encode the visible patches, fill in the others with a light transformer, predict what they hold.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the inputs, which are all alike.
        patches: what tokens hold.
        num_masked: T -> N / B, the same for every mask.
        draw: keys (B,), T, None -> is_masked (B, T).
    """

    needs = "patches"

    def __init__(
        self,
        config: MaeConfig,
        student: Encoder,
        longest: int,
        patches: Patches,
        num_masked: Callable[[int], int],
        draw: DrawMasks,
    ) -> None:
        super().__init__(student, longest)
        self.config, self.patches, self.num_masked, self._draw = config, patches, num_masked, draw
        positions = patches.positions(config.decoder.width)
        self.decoder = MaeDecoder(student.width, patches.values, config.decoder, positions)

    @classmethod
    def build(cls, config: MaeConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Mae:
        """With masks of the modality that mask as many patches in every row, and its patches as targets."""
        num_masked, draw = partial(modality.num_masked, recipe), partial(modality.draw_masks, recipe)
        patches = cls.supply(modality, recipe)
        return cls(config, student, modality.max_tokens(recipe), patches, num_masked, draw)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample, all with as many masked patches."""
        is_masked = self._draw(mask_keys(batch, seed, device), self.longest, None)
        return Masks.with_equal_counts(is_masked, len(is_masked), self.num_masked(self.longest))

    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T, P) what each patch holds, of zero mean and unit variance where the recipe says so."""
        target_BTP = self.patches.cut(inputs)
        if not self.config.normalise_targets:
            return target_BTP
        variance_BT1, mean_BT1 = torch.var_mean(target_BTP, dim=-1, keepdim=True)
        return (target_BTP - mean_BT1) * torch.rsqrt(variance_BT1 + VARIANCE_EPS)

    def predict(self, filled_NC: Tensor) -> Tensor:
        """(..., P) from the decoder's features, in at least float32."""
        prediction_NP = self.decoder.projection(filled_NC)
        return prediction_NP.to(torch.promote_types(prediction_NP.dtype, torch.float32))

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The mean squared error of each masked patch (section 3, "Reconstruction target"), summed over them."""
        return squared_error("reconstruction_loss", *self._at_masked(batch, masks), masks)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The mean squared error of every masked patch."""
        return (torch.sub(*self._at_masked(batch, masks))).square().mean(dim=1)

    def _at_masked(self, batch: Batch, masks: Masks) -> tuple[Tensor, Tensor]:
        """(N, P) predictions and targets at all masked patches."""
        encoded = self.student.encode(self.student.stem(batch.inputs), None, masks)
        filled_BTC = self.decoder(encoded.tokens, encoded.extra, masks.visible().flatten(0, 1))
        masked = Selected.masked(masks)
        prediction_NP = masked.without_fill(self.predict(masked.of(filled_BTC)))
        return prediction_NP, masked.without_fill(masked.of(self.targets(batch.inputs)))

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Encoder on visible patches and decoder on all, backward counted as two forwards; no teacher."""
        student, stem, visible = self.student, self.student.stem, tokens - self.num_masked(tokens)
        parts = {
            "stem": 3.0 * stem.local_flops(tokens),
            "teacher": 0.0,
            "student": 3.0 * (student.flops(visible) + stem.positions_flops(visible)),
            "decoder": 3.0 * self.decoder.flops(visible, student.num_extra),
        }
        return parts | {"total": sum(parts.values())}
