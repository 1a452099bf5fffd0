"""Operators around GELU that keep one tensor for backward in place of two: the other is computed again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.models.ops.mode import trains_eagerly

_GELU_BACKWARD = torch.ops.aten.gelu_backward
_NORM = torch.ops.aten.native_layer_norm
_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward

_PART_ROWS = 1024
"""At 512 channels a part is 2 MB in float32."""


class _NormGelu(torch.autograd.Function):
    """Goes through the tokens in parts that stay in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = torch.empty(rows.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        statistics = []
        for part, out in zip(_parts(rows), _parts(y), strict=True):
            normal, *of_part = _NORM(part.to(y.dtype), part.shape[-1:], weight, bias, eps)
            torch.ops.aten.gelu.out(normal, out=out)
            statistics.append(of_part)
        ctx.save_for_backward(rows, weight, bias, *(torch.cat(some) for some in zip(*statistics, strict=True)))
        ctx.eps, ctx.shape = eps, x.shape
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, mean, rstd = ctx.saved_tensors
        dx = torch.empty_like(rows)
        wanted, shape = [True, *ctx.needs_input_grad[1:3]], rows.shape[-1:]
        of_parts = []
        tensors = (rows, grad.reshape(rows.shape), mean, rstd, dx)
        for part, dy, of_mean, of_rstd, out in zip(*map(_parts, tensors), strict=True):
            wide = part.to(mean.dtype)
            normal = torch.sub(wide, of_mean).mul_(of_rstd)
            if weight is not None:
                normal = torch.addcmul(bias, normal, weight)
            dnormal = _GELU_BACKWARD(dy.to(mean.dtype), normal)
            narrow, *of_part = _NORM_BACKWARD(dnormal, wide, shape, of_mean, of_rstd, weight, bias, wanted)
            out.copy_(narrow)
            of_parts.append(of_part)
        dweight, dbias = (
            torch.stack(some).sum(0) if want else None
            for some, want in zip(zip(*of_parts, strict=True), wanted[1:], strict=True)
        )
        return dx.view(ctx.shape), dweight, dbias, None


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    """(N, ...) in parts; on a GPU there is one."""
    return rows.split(_PART_ROWS) if rows.device.type == "cpu" else (rows,)


def norm_gelu(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """GELU of the LayerNorm of the last axis, in at least float32, as under autocast. Keeps `x` alone. With a weight
    goes a bias."""
    if not trains_eagerly():
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.gelu(F.layer_norm(wide, wide.shape[-1:], weight, bias, eps))
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
        if not trains_eagerly():
            return super().forward(F.gelu(x))
        result: Tensor = _GeluLinear.apply(x, self.weight, self.bias)
        return result
