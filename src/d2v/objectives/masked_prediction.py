"""What objectives have in common that predict something of masked tokens from the full sequence, without a teacher.

Shape legend: B samples, T tokens, D width, N masked tokens of all samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from d2v.data.batch import Batch
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected
from d2v.models.shards import count_matmul_parameters
from d2v.objectives.base import DrawMasks, Pretraining, mean_masked, ragged_masks


class MaskedPrediction(Pretraining):
    """Replace masked tokens by a learned vector, encode the full sequence, predict something at masked tokens.

    Args:
        student: the encoder to train.
        longest: T of the longest sequence.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.
    """

    def __init__(self, student: Encoder, longest: int, draw: DrawMasks) -> None:
        super().__init__(student, longest)
        self._draw = draw
        self.mask_token = nn.Parameter(student.stem.mask_vector())

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample."""
        return ragged_masks(self.student, self._draw, batch, seed, device)

    @abstractmethod
    def heads(self) -> Iterable[nn.Parameter]:
        """Parameters that each masked token's features are multiplied by."""

    def target_flops(self, tokens: int) -> float:
        """Operations of making a sample's targets."""
        return 0.0

    @torch.no_grad()
    def visible_features(self, batch: Batch, masks: Masks) -> Tensor:
        """Features of the full sequence, with the mask vector at masked tokens."""
        return self.student.encode(self.masked(self.student.stem(batch.inputs), masks)).tokens

    def masked(self, local_BTD: Tensor, masks: Masks) -> Tensor:
        """(B, T, D) local features with the mask vector at masked tokens."""
        return torch.where(masks.is_masked.unsqueeze(-1), self.mask_token.to(local_BTD.dtype), local_BTD)

    def features_of(self, some: Selected, local_BTD: Tensor, masks: Masks, lengths: Tensor | None) -> Tensor:
        """(N, D) final features of some tokens of the masked sequence.

        Args:
            some: tokens.
            local_BTD: what the stem made.
            masks: one per sample.
            lengths: (B,) tokens that are not padding.
        """
        return self.student.encode_some(self.masked(local_BTD, masks), some, lengths)[0]

    def head_and_targets(
        self, head: nn.Module, targets_BT: Tensor, batch: Batch, masks: Masks
    ) -> tuple[Tensor, Tensor]:
        """What a head says of masked tokens, in at least float32, and their targets.

        Args:
            head: (N, D) features -> (N, ...).
            targets_BT: (B, T, ...) of all tokens.
            batch, masks: as of `forward`.
        """
        masked, lengths = Selected.masked(masks), self.student.token_lengths(batch.lengths)
        features_ND = self.features_of(masked, self.student.stem(batch.inputs), masks, lengths)
        said_N = masked.without_fill(head(features_ND))
        wide = torch.promote_types(said_N.dtype, torch.float32)
        return said_N.to(wide), masked.without_fill(masked.of(targets_BT))

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """See `count_flops`, with as many masked tokens as masks mask in the mean."""
        return self.count_flops(tokens, mean_masked(self._draw, tokens))

    def count_flops(self, tokens: int, scored: float) -> dict[str, float]:
        """Student on all T tokens; its last block's projection and MLP and the heads on those that are scored. Backward
        counted as two forwards; what makes targets counts as the teacher."""
        stem = self.student.stem
        parts = {
            "stem": 3.0 * stem.local_flops(tokens),
            "teacher": self.target_flops(tokens),
            "student": 3.0 * (self.student.flops(tokens, scored) + stem.positions_flops(tokens)),
            "decoder": 3.0 * 2.0 * scored * count_matmul_parameters(self.heads()),
        }
        return parts | {"total": sum(parts.values())}
