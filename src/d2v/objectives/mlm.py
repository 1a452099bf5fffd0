"""Masked language model, as RoBERTa (Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach").

Shape legend: B samples, T tokens, N masked tokens of all samples, D width, W words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import MlmConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_REPLACE, fold_in, integers, uniform
from d2v.modalities.base import Modality, Vocabulary
from d2v.models.blocks import bert_init
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected
from d2v.models.ops import LayerNorm
from d2v.models.shards import count_matmul_parameters
from d2v.objectives.base import DrawMasks, LossOutput, Pretraining, mask_keys, ragged_masks

NORM_EPS = 1e-5


class Mlm(Pretraining):
    """Replace some tokens, encode the full sequence, name the words that stood there.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
        vocabulary: which ids there are, and the table whose rows the words are compared with.
        num_masked: T -> N / B of sequences of T tokens without padding.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T).
        seed: of the replacements.
    """

    needs = "vocabulary"

    def __init__(
        self,
        config: MlmConfig,
        student: Encoder,
        longest: int,
        vocabulary: Vocabulary,
        num_masked: Callable[[int], int],
        draw: DrawMasks,
        seed: int = 0,
    ) -> None:
        super().__init__(student, longest)
        self.config, self.vocabulary = config, vocabulary
        self._num_masked, self._draw, self._seed = num_masked, draw, seed
        width = student.width
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), LayerNorm(width, eps=NORM_EPS))
        self.head.apply(bert_init)
        self.bias = nn.Parameter(torch.zeros(vocabulary.size))

    @classmethod
    def build(cls, config: MlmConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Mlm:
        """With the masks and the vocabulary of the modality."""
        num_masked, draw = partial(modality.num_masked, recipe), partial(modality.draw_masks, recipe)
        vocabulary = cls.supply(modality, recipe)
        return cls(config, student, modality.max_tokens(recipe), vocabulary, num_masked, draw, recipe.seed)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample: the tokens to name, whatever stands there now."""
        if batch.lengths is not None:
            return ragged_masks(self.student, self._draw, batch, seed, device)
        tokens = self.student.stem.num_tokens(batch.inputs)
        is_masked = self._draw(mask_keys(batch, seed, device), tokens, None)
        return Masks.with_equal_counts(is_masked, len(is_masked), self._num_masked(tokens))

    def replaced(self, batch: Batch, is_masked: Tensor) -> Tensor:
        """(B, T) ids that the student sees: at masked tokens <mask>, another word, or the word itself.

        What stands there is a function of (seed, update, sample id, position)."""
        ids_BT = batch.inputs
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        keys_BT = fold_in(self._seed, STREAM_REPLACE, batch.update, batch.sample_ids[:, None], places_T)
        choice_BT = uniform(keys_BT.flatten(), 1).view_as(ids_BT)
        words = self.vocabulary.mask_id - self.vocabulary.first_word
        other_BT = integers(fold_in(keys_BT, 1), words) + self.vocabulary.first_word
        becomes_other_BT = choice_BT < self.config.mask_share + self.config.random_share
        seen_BT = torch.where(becomes_other_BT, other_BT.to(ids_BT.dtype), ids_BT)
        seen_BT = seen_BT.masked_fill(choice_BT < self.config.mask_share, self.vocabulary.mask_id)
        return torch.where(is_masked, seen_BT, ids_BT)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The cross-entropy of the words at masked tokens."""
        logits_NW, words_N = self._at_masked(batch, masks, self.replaced(batch, masks.is_masked))
        loss = F.cross_entropy(logits_NW, words_N, reduction="sum")
        statistics = {
            "mlm_loss": loss.detach() / masks.count,
            "accuracy": (logits_NW.detach().argmax(dim=-1) == words_N).float().mean(),
        }
        return LossOutput(loss, statistics)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The cross-entropy of every masked word, with <mask> at all of them."""
        return F.cross_entropy(*self._at_masked(batch, masks, self._masked(batch, masks)), reduction="none")

    @torch.no_grad()
    def visible_features(self, batch: Batch, masks: Masks) -> Tensor:
        """Features of the full sequence, with <mask> at masked tokens."""
        return self.student(self._masked(batch, masks))

    def _masked(self, batch: Batch, masks: Masks) -> Tensor:
        return batch.inputs.masked_fill(masks.is_masked, self.vocabulary.mask_id)

    def _at_masked(self, batch: Batch, masks: Masks, seen_BT: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W) logits in at least float32 and (N,) words at all masked tokens."""
        masked, lengths = Selected.masked(masks), self.student.token_lengths(batch.lengths)
        features_ND = self.head(self.student.encode_some(self.student.stem(seen_BT), masked, lengths)[0])
        logits_NW = masked.without_fill(F.linear(features_ND, self.vocabulary.table(self.student), self.bias))
        wide = torch.promote_types(logits_NW.dtype, torch.float32)
        return logits_NW.to(wide), masked.without_fill(masked.of(batch.inputs))

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Student on all T tokens, its last block's projection and MLP and the head on masked ones; backward counted as
        two forwards, no teacher."""
        student, stem, masked = self.student, self.student.stem, self._num_masked(tokens)
        head = count_matmul_parameters(self.head.parameters()) + self.vocabulary.size * student.width
        parts = {
            "stem": 3.0 * stem.local_flops(tokens),
            "teacher": 0.0,
            "student": 3.0 * (student.flops(tokens, masked) + stem.positions_flops(tokens)),
            "decoder": 3.0 * 2.0 * masked * head,
        }
        return parts | {"total": sum(parts.values())}
