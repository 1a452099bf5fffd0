"""Attention from products of matrices, for short sequences on a CPU.

There the fused kernel's backward is 1.6 (float32) to 12 times (bfloat16) slower at 13 tokens than these products, and
autograd's own way through them copies queries, keys and values one by one and keeps three (T, T) tensors. Here all
are laid out in one copy, and the weights and one byte of dropout are kept.

Shape legend: B rows, T tokens, H heads, D width, d = D / H.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from d2v.models.ops.dropout import draw_kept, keep
from d2v.models.ops.softmax import softmax, softmax_backward


class _Attention(torch.autograd.Function):
    """Softmax and its backward compute in at least float32 and round to the inputs' type, as the products do."""

    @staticmethod
    def forward(ctx: Any, qkv_BTE: Tensor, heads: int, bias: Tensor | None, rate: float) -> Tensor:
        rows, tokens, width = qkv_BTE.shape[0], qkv_BTE.shape[1], qkv_BTE.shape[2] // 3
        ctx.sizes, ctx.scale = (rows, tokens, heads, width // heads), (width // heads) ** -0.5
        parts = qkv_BTE.view(rows, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
        q, k, v = parts.unbind(0)
        logits = torch.empty(rows * heads, tokens, tokens, dtype=q.dtype)
        if bias is not None:
            logits.view(rows, heads, tokens, tokens).copy_(bias)
        torch.baddbmm(logits, q, k.transpose(1, 2), beta=float(bias is not None), alpha=ctx.scale, out=logits)
        weights = softmax(logits)
        kept, ctx.factor = draw_kept(weights, rate) if rate else (None, 1.0)
        ctx.save_for_backward(parts, weights, kept)
        ctx.bias = None if bias is None else (bias.shape, bias.dtype)
        return _merged(_product(_kept(weights, kept), v, ctx.factor), rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        parts, weights, kept = ctx.saved_tensors
        rows, tokens, heads, channels = ctx.sizes
        q, k, v = parts.unbind(0)
        grad = grad_BTD.reshape(rows, tokens, heads, channels).transpose(1, 2).flatten(0, 1)
        grads = torch.empty_like(parts)
        _product(_kept(weights, kept).transpose(1, 2), grad, ctx.factor, grads[2])
        dweights = _kept(_product(grad, v.transpose(1, 2), ctx.factor), kept)
        dlogits = softmax_backward(dweights, weights)
        _product(dlogits, k, ctx.scale, grads[0])
        _product(dlogits.transpose(1, 2), q, ctx.scale, grads[1])
        dqkv = grads.unflatten(1, (rows, heads)).permute(1, 3, 0, 2, 4).flatten(2)
        dbias = None
        if ctx.needs_input_grad[2]:
            shape, dtype = ctx.bias
            dbias = dlogits.view(rows, heads, tokens, tokens).sum_to_size(shape).to(dtype)
        return dqkv, None, dbias, None


def _product(left: Tensor, right: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """Of each head's matrices, times the factor."""
    if out is None:
        out = left.new_empty(*left.shape[:2], right.shape[-1])
    return torch.baddbmm(out, left, right, beta=0.0, alpha=factor, out=out)


def _kept(weights: Tensor, kept: Tensor | None) -> Tensor:
    return weights if kept is None else keep(weights, kept)


def _merged(y: Tensor, rows: int) -> Tensor:
    """(B * H, T, d) -> (B, T, D)."""
    return y.view(rows, -1, *y.shape[1:]).transpose(1, 2).flatten(2)


def _plain(qkv_BTE: Tensor, heads: int, bias: Tensor | None, rate: float) -> Tensor:
    """The same from operators that every exporter knows."""
    q, k, v = qkv_BTE.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (logits if bias is None else logits + bias).softmax(dim=-1)
    return (F.dropout(weights, rate).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def attention(qkv_BTE: Tensor, heads: int, bias: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention on a CPU.

    Args:
        qkv_BTE: (B, T, 3 D) queries, keys and values.
        heads: H.
        bias: added to the logits; broadcasts to (B, H, T, T).
        dropout: on the attention weights.

    Returns:
        (B, T, D).
    """
    if torch.compiler.is_compiling() or not qkv_BTE.numel() or dropout == 1.0:
        return _plain(qkv_BTE, heads, bias, dropout)
    result: Tensor = _Attention.apply(qkv_BTE, heads, bias, dropout)
    return result
