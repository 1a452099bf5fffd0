"""Heads between an encoder and a task: pooling, and one or two layers.

Shape legend: B items, T tokens, E extra tokens, D width, C outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2v.config import HeadConfig
from d2v.errors import ConfigError
from d2v.models.encoder import Encoded
from d2v.models.masking import is_padding
from d2v.models.ops import Dropout, LayerNorm

NORM_EPS = 1e-6


def mean_over_tokens(tokens_BTD: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, D) mean over tokens that are not padding."""
    if lengths is None:
        return tokens_BTD.mean(dim=1)
    padding_BT1 = is_padding(lengths, tokens_BTD.shape[1]).unsqueeze(-1)
    return tokens_BTD.masked_fill(padding_BT1, 0.0).sum(dim=1) / lengths[:, None]


class AttentionPool(nn.Module):
    """One learned query that attends to all tokens: the pooling of an attentive probe (Chen et al. 2023, "Context
    Autoencoder for Self-Supervised Representation Learning").

    Args:
        width: D.
        heads: of the attention.

    Raises:
        ConfigError: the width does not part into so many heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"An attentive probe of {heads} heads does not part features of {width} numbers: set "
                f"finetune.task.head.heads to a divisor of {width}"
            )
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm = LayerNorm(width, eps=NORM_EPS)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, tokens_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, D)."""
        tokens_BTD = self.norm(tokens_BTD)
        ignored_BT = None if lengths is None else is_padding(lengths, tokens_BTD.shape[1])
        query_B1D = self.query.expand(tokens_BTD.shape[0], -1, -1)
        pooled_B1D, _ = self.attention(query_B1D, tokens_BTD, tokens_BTD, ignored_BT, need_weights=False)
        return pooled_B1D[:, 0]


class PooledHead(nn.Module):
    """Items to outputs: pooling, LayerNorm, a hidden layer with tanh, dropout, linear layer, as far as configured.

    Mean, norm and linear layer are data2vec's head for images; the first token (`<s>`), a hidden layer and the linear
    layer are RoBERTa's for sentences.

    Args:
        config: which of them.
        width: D.
        outputs: C.
        heads: of attentive pooling.
    """

    def __init__(self, config: HeadConfig, width: int, outputs: int, heads: int = 1) -> None:
        super().__init__()
        self.pool = config.pool
        self.attention = AttentionPool(width, heads) if config.pool == "attention" else None
        self.norm = LayerNorm(width, eps=config.norm_eps) if config.norm else nn.Identity()
        self.hidden = nn.Linear(width, width) if config.hidden else None
        self.dropout = Dropout(config.dropout)
        self.classify = nn.Linear(width, outputs)
        for layer in (self.hidden, self.classify):
            if layer is not None:
                nn.init.trunc_normal_(layer.weight, std=config.init_std)
                nn.init.zeros_(layer.bias)

    def forward(self, encoded: Encoded, lengths: Tensor | None) -> Tensor:
        """(B, C) outputs.

        Args:
            encoded: the encoder's features.
            lengths: (B,) tokens that are not padding, or None.
        """
        x_BD = self.norm(self._pooled(encoded, lengths))
        if self.hidden is not None:
            x_BD = torch.tanh(self.hidden(self.dropout(x_BD)))
        return self.classify(self.dropout(x_BD))

    def _pooled(self, encoded: Encoded, lengths: Tensor | None) -> Tensor:
        if self.attention is not None:
            return self.attention(encoded.tokens, lengths)
        if self.pool == "first":
            return encoded.extra[:, 0] if encoded.extra.shape[1] else encoded.tokens[:, 0]
        return mean_over_tokens(encoded.tokens, lengths)


class TokenHead(nn.Module):
    """Tokens to outputs: dropout and a linear layer.

    Args:
        width: D.
        outputs: C.
        dropout: before the layer.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.classify = nn.Linear(width, outputs)
        nn.init.xavier_uniform_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, encoded: Encoded, lengths: Tensor | None) -> Tensor:
        """(B, T, C) outputs of every token."""
        return self.classify(self.dropout(encoded.tokens))
