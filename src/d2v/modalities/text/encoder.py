"""Text encoders: RoBERTa's embeddings and the transformers of data2vec 1.0 and 2.0.

Shape legend: B sequences, M masks, R rows, T tokens, V visible tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2v.modalities.text.config import TextEncoderConfig, TextTrainConfig
from d2v.modalities.text.tokenizer import PAD
from d2v.models.blocks import DoubledMlpBlock, PostNormBlock, VitBlock, bert_init
from d2v.models.encoder import Encoder, Stem
from d2v.models.masking import Masks, gather_tokens
from d2v.models.ops import Dropout, LayerNorm


class Placing(nn.Module):
    """Learned positions, LayerNorm, dropout. As in fairseq, positions count from the row after that of padding.

    Args:
        config: number of positions, width, norm and dropout.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.max_tokens + PAD + 1, config.width, padding_idx=PAD)
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = Dropout(config.embedding_dropout)

    def forward(self, words_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        first = PAD + 1
        return self.dropout(self.norm(words_BTD + self.positions.weight[first : first + words_BTD.shape[1]]))


class TokenEmbedding(nn.Module):
    """Token ids to vectors, with positions if they are added before anything is masked.

    Args:
        config: rows of the table, width.
        placing: what adds positions; None leaves that to later.
    """

    def __init__(self, config: TextEncoderConfig, placing: Placing | None) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.width, padding_idx=PAD)
        self.placing = placing

    def forward(self, ids_BT: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, D)."""
        words_BTD = self.words(ids_BT)
        return words_BTD if self.placing is None else self.placing(words_BTD)


class _TextStem(Stem):
    """Tokens are what inputs consist of."""

    local: TokenEmbedding

    def num_tokens(self, inputs: Tensor) -> int:
        """Tokens of a padded sequence."""
        return inputs.shape[1]

    def local_flops(self, tokens: int) -> float:
        """None: a table is read, not multiplied."""
        return 0.0


class PlacedStem(_TextStem):
    """data2vec 2.0: positions belong to the local features, and the stem only drops what is masked."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.width = config.width
        self.local = TokenEmbedding(config, Placing(config))

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Visible tokens; no attention bias."""
        return (local_BTD if masks is None else gather_tokens(local_BTD, masks.visible())), None


class MaskableStem(_TextStem):
    """data2vec 1.0: positions are added after masked tokens became the mask vector."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.width = config.width
        self.local = TokenEmbedding(config, placing=None)
        self.placing = Placing(config)

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """All tokens with positions; no attention bias. This encoder never drops tokens."""
        if masks is not None:
            raise ValueError("the data2vec1 encoder sees full sequences: use encoder.layout=data2vec2 to drop tokens")
        return self.placing(local_BTD), None


def build_encoder(recipe: TextTrainConfig) -> Encoder:
    """The recipe's encoder, initialised from torch's generator."""
    c = recipe.encoder
    kind = PostNormBlock if not c.pre_norm else DoubledMlpBlock if c.layout == "data2vec2" else VitBlock
    blocks = [kind(c.width, c.heads, c.mlp_ratio, c.norm_eps, c.dropout, c.attention_dropout) for _ in range(c.depth)]
    stem = PlacedStem(c) if c.layout == "data2vec2" else MaskableStem(c)
    final_norm = LayerNorm(c.width, eps=c.norm_eps) if c.pre_norm else None
    encoder = Encoder(stem, nn.ModuleList(blocks), c.width, final_norm=final_norm, layer_drop=(0.0, c.layer_drop))
    encoder.apply(bert_init)
    for module in stem.modules():
        if isinstance(module, TokenEmbedding):
            _embedding_init(module.words, c.word_std)
        elif isinstance(module, Placing):
            _embedding_init(module.positions, c.position_std)
    return encoder


def _embedding_init(table: nn.Embedding, std: float) -> None:
    """Normal, as BERT's, with zeros for padding."""
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[PAD].zero_()
