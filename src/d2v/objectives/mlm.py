"""Masked language model, as RoBERTa (Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach") or
BERT (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding").

Shape legend: B samples, T tokens, N masked tokens of all samples, D width, W words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import MlmConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MASK, STREAM_REPLACE, fold_in, integers, uniform
from d2v.errors import DataError
from d2v.modalities.base import Modality, Vocabulary
from d2v.models.blocks import bert_init
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected
from d2v.models.ops import LayerNorm
from d2v.models.shards import count_matmul_parameters
from d2v.objectives.base import DrawMasks, LossOutput, Pretraining
from d2v.objectives.selection import bert_number, bert_selection, roberta_selection

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
        self.pair_head: nn.Sequential | None = None
        if config.next_sentence:
            self.pair_head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)).apply(bert_init)

    @classmethod
    def build(cls, config: MlmConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Mlm:
        """With the masks and the vocabulary of the modality."""
        num_masked, draw = partial(modality.num_masked, recipe), partial(modality.draw_masks, recipe)
        vocabulary = cls.supply(modality, recipe)
        return cls(config, student, modality.max_tokens(recipe), vocabulary, num_masked, draw, recipe.seed)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample: the tokens to name, whatever stands there now."""
        keys_B = self._keys(batch, seed, STREAM_MASK).to(device)
        tokens = self.student.stem.num_tokens(batch.inputs)
        lengths = None if batch.lengths is None else self.student.token_lengths(batch.lengths.to(device))
        if self.config.select == "roberta":
            return Masks.ragged(roberta_selection(keys_B, tokens, lengths, self.config.share))
        if self.config.select == "bert":
            c, words_BT = self.config, self._words(batch).to(device)
            return Masks.ragged(bert_selection(keys_B, words_BT, lengths, c.share, c.most_selected, c.whole_words))
        is_masked = self._draw(keys_B, tokens, lengths)
        if lengths is not None:
            return Masks.ragged(is_masked)
        return Masks.with_equal_counts(is_masked, len(is_masked), self._num_masked(tokens))

    def _keys(self, batch: Batch, seed: int, stream: int) -> Tensor:
        """(B,) a key for each sample and update; of static masks, for each sample and set of masks."""
        if not self.config.static_masks:
            return fold_in(seed, stream, batch.update, batch.sample_ids)
        return fold_in(seed, stream, batch.epochs % self.config.static_masks, batch.sample_ids)

    def _words(self, batch: Batch) -> Tensor:
        """(B, T) number of each token's word, 0 for special tokens. Where a batch does not tell, every token is one."""
        is_word_BT = (batch.inputs >= self.vocabulary.first_word) & (batch.inputs != self.vocabulary.mask_id)
        if batch.targets is not None:
            return batch.targets * is_word_BT
        return torch.arange(1, is_word_BT.shape[1] + 1, device=is_word_BT.device) * is_word_BT

    def replaced(self, batch: Batch, is_masked: Tensor) -> Tensor:
        """(B, T) ids that the student sees: at masked tokens <mask>, another word, or the word itself.

        What stands there is a function of (seed, update, sample id, position)."""
        ids_BT = batch.inputs
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        keys_BT = self._replacement_keys(batch, places_T)
        choice_BT = uniform(keys_BT.flatten(), 1).view_as(ids_BT)
        first = 0 if self.config.random_specials else self.vocabulary.first_word
        end = self.vocabulary.size if self.config.random_specials else self.vocabulary.mask_id
        other_BT = integers(fold_in(keys_BT, 1), end - first) + first
        becomes_other_BT = choice_BT < self.config.mask_share + self.config.random_share
        seen_BT = torch.where(becomes_other_BT, other_BT.to(ids_BT.dtype), ids_BT)
        seen_BT = seen_BT.masked_fill(choice_BT < self.config.mask_share, self.vocabulary.mask_id)
        return torch.where(is_masked, seen_BT, ids_BT)

    def _replacement_keys(self, batch: Batch, places_T: Tensor) -> Tensor:
        """(B, T) keys of what stands at each place."""
        ids_B1, copies = batch.sample_ids[:, None], self.config.static_masks
        if copies:
            return fold_in(self._seed, STREAM_REPLACE, (batch.epochs % copies)[:, None], ids_B1, places_T)
        return fold_in(self._seed, STREAM_REPLACE, batch.update, ids_B1, places_T)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The cross-entropy of the words at masked tokens, and of what BERT is asked of pairs."""
        features_ND, masked = self._features(batch, masks, self.replaced(batch, masks.is_masked))
        first, rest_ND = self._parted(features_ND, len(batch.inputs))
        logits_NW, words_N = self._named(rest_ND, masked), masked.without_fill(masked.of(batch.inputs))
        loss = F.cross_entropy(logits_NW, words_N, reduction="sum")
        statistics = {
            "mlm_loss": loss.detach() / masks.count,
            "accuracy": (logits_NW.detach().argmax(dim=-1) == words_N).float().mean(),
        }
        if first is not None:
            pair_loss, of_pairs = self._pair_loss(first, batch, masks)
            loss, statistics = loss + pair_loss, statistics | of_pairs
        return LossOutput(loss, statistics)

    def _pair_loss(self, first_BD: Tensor, batch: Batch, masks: Masks) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy of whether second runs follow first ones, each times its sample's masked tokens, so that
        parts of a batch add up; and its mean and accuracy.

        Raises:
            DataError: the batch does not say which do.
        """
        if batch.targets is None or self.pair_head is None:
            raise DataError("next_sentence learns from pairs, and this batch has none: set prepare.packing=pairs")
        logits_B2, is_next_B = self.pair_head(first_BD), batch.targets[:, 0]
        wide = torch.promote_types(logits_B2.dtype, torch.float32)
        losses_B = F.cross_entropy(logits_B2.to(wide), is_next_B, reduction="none")
        right_B = logits_B2.detach().argmax(dim=-1) == is_next_B
        statistics = {"pair_loss": losses_B.detach().mean(), "pair_accuracy": right_B.float().mean()}
        return (losses_B * masks.is_masked.sum(dim=1)).sum(), statistics

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
        features_ND, masked = self._features(batch, masks, seen_BT)
        _, rest_ND = self._parted(features_ND, len(batch.inputs))
        return self._named(rest_ND, masked), masked.without_fill(masked.of(batch.inputs))

    def _features(self, batch: Batch, masks: Masks, seen_BT: Tensor) -> tuple[Tensor, Selected]:
        """Final features at all masked tokens, behind those of every first token where pairs are asked about; and which
        tokens are masked."""
        masked, lengths = Selected.masked(masks), self.student.token_lengths(batch.lengths)
        some = masked
        if self.pair_head is not None:
            first_B = masked.tokens * torch.arange(masked.rows, device=masked.index.device)
            some = replace(masked, index=torch.cat((first_B, masked.index)))
        return self.student.encode_some(self.student.stem(seen_BT), some, lengths)[0], masked

    def _parted(self, features_ND: Tensor, samples: int) -> tuple[Tensor | None, Tensor]:
        """Features of first tokens, where there are some, and of masked ones."""
        return (None, features_ND) if self.pair_head is None else (features_ND[:samples], features_ND[samples:])

    def _named(self, features_ND: Tensor, masked: Selected) -> Tensor:
        """(N, W) logits of words, in at least float32."""
        logits_NW = F.linear(self.head(features_ND), self.vocabulary.table(self.student), self.bias)
        logits_NW = masked.without_fill(logits_NW)
        return logits_NW.to(torch.promote_types(logits_NW.dtype, torch.float32))

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Student on all T tokens, its last block's projection and MLP and the head on masked ones, as many as are
        selected in the mean; pairs are told by first tokens. Backward counted as two forwards, no teacher."""
        student, stem, masked = self.student, self.student.stem, self._mean_selected(tokens)
        head = count_matmul_parameters(self.head.parameters()) + self.vocabulary.size * student.width
        pairs = 0 if self.pair_head is None else count_matmul_parameters(self.pair_head.parameters())
        scored = masked + (self.pair_head is not None)
        parts = {
            "stem": 3.0 * stem.local_flops(tokens),
            "teacher": 0.0,
            "student": 3.0 * (student.flops(tokens, scored) + stem.positions_flops(tokens)),
            "decoder": 3.0 * 2.0 * (masked * head + pairs),
        }
        return parts | {"total": sum(parts.values())}

    def _mean_selected(self, tokens: int) -> float:
        if self.config.select == "mask":
            return self._num_masked(tokens)
        if self.config.select == "roberta":
            return self.config.share * tokens
        return float(bert_number(torch.tensor([tokens]), self.config.share, self.config.most_selected))
