"""Operators around GELU that keep one tensor for backward in place of two: the other is computed again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GELU_BACKWARD = torch.ops.aten.gelu_backward
_NORM = torch.ops.aten.native_layer_norm
_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward


class _NormGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normal, mean, rstd = _NORM(wide, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.eps = eps
        return F.gelu(normal)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        wide, shape = x.to(mean.dtype), x.shape[-1:]
        normal, _, _ = _NORM(wide, shape, weight, bias, ctx.eps)
        wanted = list(ctx.needs_input_grad[:3])
        grads = _NORM_BACKWARD(_GELU_BACKWARD(grad, normal), wide, shape, mean, rstd, weight, bias, wanted)
        dx, dweight, dbias = (one if want else None for one, want in zip(grads, wanted, strict=True))
        return None if dx is None else dx.to(x.dtype), dweight, dbias, None


def norm_gelu(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """GELU of the LayerNorm of the last axis, in at least float32, as under autocast. Keeps `x` alone."""
    result: Tensor = _NormGelu.apply(x, weight, bias, eps)
    return result


class LayerNormGelu(nn.LayerNorm):
    """LayerNorm, then GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return norm_gelu(x, self.weight, self.bias, self.eps)


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        want_x, want_weight, want_bias = ctx.needs_input_grad
        dweight = (rows.t() @ F.gelu(x).to(grad.dtype).flatten(0, -2)).to(weight.dtype) if want_weight else None
        dbias = rows.sum(0).to(bias.dtype) if want_bias else None
        dx = _GELU_BACKWARD((grad @ weight.to(grad.dtype)).to(x.dtype), x) if want_x else None
        return dx, dweight, dbias


class GeluLinear(nn.Linear):
    """GELU, then a linear layer. Keeps the input alone."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _GeluLinear.apply(x, self.weight, self.bias)
        return result
