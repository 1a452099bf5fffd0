"""Transformer blocks: the post-norm block of data2vec 2.0, BEiT's pre-norm block of data2vec 1.0 vision, and the
pre-norm blocks of the reference's other settings.

Shape legend: B batch (rows), T tokens, D width, H heads, N tokens that are selected.
Parameter names follow the reference's, so that its checkpoints map without renaming.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.models.masking import Selected
from d2v.models.ops import Dropout, GeluLinear, LayerNorm, Linear, attention, linear
from d2v.models.ops.mode import trains_eagerly

PLAIN_ATTENTION_TOKENS = 256
"""Longest sequence for which a CPU takes `d2v.models.ops.attention` in any case; beyond, the fused kernel's savings in
memory begin to matter. That kernel knows no dropout: with it torch, too, keeps weights of (T, T), and takes longer."""


class DropPath(nn.Module):
    """Stochastic depth per row (Huang et al. 2016): the branch is dropped with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, selected: Selected | None = None) -> Tensor:
        """(B, T, D), or the (N, D) of it that are selected."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        rows = len(x) if selected is None else selected.rows
        scale = torch.empty(rows, 1, 1, device=x.device).bernoulli_(keep) / keep
        if selected is not None:
            scale = scale[selected.row_of(), 0]
        return x * scale.to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: D.
        heads: H.
        dropout: on the attention weights.
        projection_dropout: on the output.
        key_bias: False leaves K without a bias and learns q_bias and v_bias alone (BEiT).
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, projection_dropout: float = 0.0, key_bias: bool = True
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = Linear(width, 3 * width, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)
        self.proj_dropout = Dropout(projection_dropout)

    def _qkv_bias(self) -> Tensor | None:
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))

    def forward(self, x_BTD: Tensor, bias: Tensor | None = None, selected: Selected | None = None) -> Tensor:
        """(B, T, D), or the (N, D) that are selected; `bias` is added to the logits and broadcasts to (B, H, T, T)."""
        rows, tokens, width = x_BTD.shape
        qkv = linear(x_BTD, self.qkv.weight, self._qkv_bias())
        mask = None if bias is None else bias.to(qkv.dtype)
        dropout = self.dropout if self.training else 0.0
        if qkv.is_cpu and (tokens <= PLAIN_ATTENTION_TOKENS or dropout > 0.0):
            y_BTD = attention(qkv, self.heads, mask, dropout)
        else:
            q, k, v = qkv.view(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
            y_BTD = y.transpose(1, 2).reshape(rows, tokens, width)
        return self.proj_dropout(self.proj(_of(selected, y_BTD)))


def _of(selected: Selected | None, x_BTD: Tensor) -> Tensor:
    return x_BTD if selected is None else selected.of(x_BTD)


class Mlp(nn.Module):
    """fc1, GELU, fc2."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = GeluLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        if trains_eagerly():  # fc2 keeps what comes before GELU alone
            return self.fc2(self.fc1(x))
        return self.fc2(self.fc1(x, then_gelu=True), after_gelu=True)


class _Block(nn.Module):
    """The parts that both kinds of block have.

    A block returns (x, ffn), its output and the FFN's output before dropout and residual: (B, T, D), or the (N, D) that
    are selected. All tokens are keys and values in any case.

    Args:
        width: D.
        heads: H.
        mlp_ratio: hidden width of the MLP over D.
        norm_eps: of both LayerNorms.
        dropout: after the attention's projection and after the MLP.
        attention_dropout: on the attention weights.
        drop_path: stochastic depth of both branches.
    """

    key_bias = True

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        norm_eps: float,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, attention_dropout, dropout, self.key_bias)
        self.norm2 = LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.dropout = Dropout(dropout)
        self.drop_path = DropPath(drop_path)


class PostNormBlock(_Block):
    """data2vec 2.0's block."""

    def forward(
        self, x_BTD: Tensor, bias: Tensor | None = None, selected: Selected | None = None
    ) -> tuple[Tensor, Tensor]:
        branch = self.attn(x_BTD, bias, selected)
        x = self.norm1(_of(selected, x_BTD) + self.drop_path(branch, selected))
        ffn = self.mlp(x)
        return self.norm2(x + self.drop_path(self.dropout(ffn), selected)), ffn


class DoubledMlpBlock(_Block):
    """The pre-norm block of data2vec 2.0's reference, for models that were trained with it: its MLP has no residual,
    and the MLP's output is added to itself."""

    def forward(
        self, x_BTD: Tensor, bias: Tensor | None = None, selected: Selected | None = None
    ) -> tuple[Tensor, Tensor]:
        branch = self.attn(self.norm1(x_BTD), bias, selected)
        x = _of(selected, x_BTD) + self.drop_path(branch, selected)
        ffn = self.mlp(self.norm2(x))
        return ffn + self.drop_path(self.dropout(ffn), selected), ffn


class PreNormBlock(_Block):
    """BEiT's block, with LayerScale if `layer_scale_init` is given."""

    key_bias = False

    def __init__(self, width: int, *sizes: Any, layer_scale_init: float | None = None) -> None:
        super().__init__(width, *sizes)
        self.gamma_1 = self.gamma_2 = None
        if layer_scale_init is not None:
            self.gamma_1 = nn.Parameter(torch.full((width,), layer_scale_init))
            self.gamma_2 = nn.Parameter(torch.full((width,), layer_scale_init))

    def forward(
        self, x_BTD: Tensor, bias: Tensor | None = None, selected: Selected | None = None
    ) -> tuple[Tensor, Tensor]:
        branch = self.attn(self.norm1(x_BTD), bias, selected)
        x = _of(selected, x_BTD) + self.drop_path(branch if self.gamma_1 is None else self.gamma_1 * branch, selected)
        ffn = self.mlp(self.norm2(x))
        branch = self.dropout(ffn)
        return x + self.drop_path(branch if self.gamma_2 is None else self.gamma_2 * branch, selected), ffn


class VitBlock(PreNormBlock):
    """The pre-norm block of ViT, which gives K a bias, too."""

    key_bias = True


def bert_init(module: nn.Module) -> None:
    """BERT's initialisation for `module.apply`: normal with sigma 0.02 for linear weights, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
