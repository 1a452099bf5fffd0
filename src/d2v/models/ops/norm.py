"""LayerNorm whose weights' gradients are summed in float32, alone, before GELU, and before GELU and a sum.

torch's own sums them in bfloat16 where a CPU gives it bfloat16: errors of 15 to 68 % in a speech encoder
(docs/lab-log/2026-11.md). The one before GELU keeps one tensor for backward in place of two: the other is computed
again.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from d2v.models.ops.mode import trains_eagerly

_GELU_BACKWARD = torch.ops.aten.gelu_backward
_NORM = torch.ops.aten.native_layer_norm
_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward

_PART_ELEMENTS = {"cpu": 2**19, "cuda": 2**24}
"""In float32 a part has 2 MB on a CPU, which fits its cache, and 64 MB on a GPU, so that backward holds little more for
a moment."""


class _Norm(torch.autograd.Function):
    """Goes through the tokens in parts, and computes in at least float32."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        dtype: torch.dtype,
        then_gelu: bool,
    ) -> Tensor:
        rows, wide = x.reshape(-1, x.shape[-1]), _wide(x.dtype)
        y = torch.empty(rows.shape, dtype=dtype, device=x.device)
        affine = _widened(weight, bias, wide)
        statistics = []
        for part in _parts(rows):
            normal, *of_part = _NORM(rows[part].to(wide), rows.shape[-1:], *affine, eps)
            y[part] = F.gelu(normal) if then_gelu else normal
            statistics.append(of_part)
        ctx.save_for_backward(rows, weight, bias, *(torch.cat(some) for some in zip(*statistics, strict=True)))
        ctx.shape, ctx.then_gelu = x.shape, then_gelu
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, mean, rstd = ctx.saved_tensors
        affine = _widened(weight, bias, mean.dtype)
        dx = torch.empty_like(rows)
        wanted, shape = [True, *ctx.needs_input_grad[1:3]], rows.shape[-1:]
        of_parts = []
        grad = grad.reshape(rows.shape)
        for part in _parts(rows):
            wide, dnormal = rows[part].to(mean.dtype), grad[part].to(mean.dtype)
            if ctx.then_gelu:
                dnormal = _GELU_BACKWARD(dnormal, _normal(wide, mean[part], rstd[part], *affine))
            narrow, *of_part = _NORM_BACKWARD(dnormal, wide, shape, mean[part], rstd[part], *affine, wanted)
            dx[part] = narrow
            of_parts.append(of_part)
        dweight, dbias = (
            torch.stack(some).sum(0).to(own.dtype) if want else None
            for some, own, want in zip(zip(*of_parts, strict=True), (weight, bias), wanted[1:], strict=True)
        )
        return dx.view(ctx.shape), dweight, dbias, None, None, None


def _normal(x_NC: Tensor, mean_N1: Tensor, rstd_N1: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    normal = torch.sub(x_NC, mean_N1).mul_(rstd_N1)
    if weight is not None:
        normal.mul_(weight)
    return normal if bias is None else normal.add_(bias)


def _parts(rows_NC: Tensor) -> list[slice]:
    """Of the rows."""
    size = max(1, _PART_ELEMENTS.get(rows_NC.device.type, 2**24) // rows_NC.shape[1])
    return [slice(first, first + size) for first in range(0, len(rows_NC), size)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _widened(weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    return None if weight is None else weight.to(dtype), None if bias is None else bias.to(dtype)


def norm_gelu(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """GELU of the LayerNorm of the last axis. Keeps `x` alone.

    The result has the type of `x`, but float32 under autocast on a GPU, as with torch's own operators.
    """
    if not trains_eagerly() or not x.numel():
        return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias, eps))
    widens = x.is_cuda and torch.is_autocast_enabled("cuda")
    result: Tensor = _Norm.apply(x, weight, bias, eps, torch.float32 if widens else x.dtype, True)
    return result


class _AddNormGelu(torch.autograd.Function):
    """Goes through the tokens in parts, so that a sum is read and rounded while it is in the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, eps: float, narrow: torch.dtype) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        rows, before, wide = y.reshape(-1, y.shape[-1]), x.reshape(-1, x.shape[-1]), _wide(y.dtype)
        sums, rounded = torch.empty_like(before), torch.empty(before.shape, dtype=narrow)
        statistics = []
        for part in _parts(rows):
            normal, *of_part = _NORM(rows[part].to(wide), rows.shape[-1:], None, None, eps)
            rounded[part] = torch.add(before[part], F.gelu(normal), out=sums[part])
            statistics.append(of_part)
        ctx.save_for_backward(rows, *(torch.cat(some) for some in zip(*statistics, strict=True)))
        ctx.shape = x.shape
        return sums.view(x.shape), rounded.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_both: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, mean, rstd = ctx.saved_tensors
        grads = [grad.reshape(rows.shape) for grad in of_both if grad is not None]
        dx, dy = torch.empty(rows.shape, dtype=mean.dtype), torch.empty_like(rows)
        for part in _parts(rows):
            wide, grad = rows[part].to(mean.dtype), dx[part]
            grad.copy_(grads[0][part])
            for other in grads[1:]:
                grad.add_(other[part])
            dnormal = _GELU_BACKWARD(grad, _normal(wide, mean[part], rstd[part], None, None))
            statistics = mean[part], rstd[part], None, None, [True, False, False]
            dy[part] = _NORM_BACKWARD(dnormal, wide, rows.shape[-1:], *statistics)[0]
        return dx.view(ctx.shape), dy.view(ctx.shape), None, None


def add_norm_gelu(x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + GELU of the LayerNorm of `y` over its last axis. Keeps `y` alone.

    Returns:
        (the sum, the same in the type in which autocast will multiply it).
    """
    narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if not (x.is_cpu and y.numel() and trains_eagerly() and x.dtype == _wide(y.dtype) and narrow != x.dtype):
        total = x + norm_gelu(y, eps=eps)
        return total, total
    sums, rounded = _AddNormGelu.apply(x, y, eps, narrow)
    return sums, rounded


class LayerNormGelu(nn.LayerNorm):
    """LayerNorm, then GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return norm_gelu(x, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """LayerNorm of the last axis. On a CPU, the gradients of narrow inputs' weights are summed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        is_narrow = torch.promote_types(x.dtype, torch.float32) != x.dtype
        if not (x.is_cpu and is_narrow and trains_eagerly() and x.numel()):
            return super().forward(x)
        result: Tensor = _Norm.apply(x, self.weight, self.bias, self.eps, x.dtype, False)
        return result
