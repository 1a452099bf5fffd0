"""A linear layer after GELU that keeps one tensor for backward in place of two: the other is computed again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from d2v.models.ops.linear import Linear, as_multiplied, product
from d2v.models.ops.mode import trains_eagerly

_GELU_BACKWARD = torch.ops.aten.gelu_backward


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return product(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        want_x, want_weight, want_bias = ctx.needs_input_grad
        dweight = None
        if want_weight:
            dweight = (rows.t() @ F.gelu(x).to(grad.dtype).reshape(-1, x.shape[-1])).to(weight.dtype)
        dbias = rows.sum(0).to(bias.dtype) if want_bias else None
        dx = _GELU_BACKWARD((grad @ weight.to(grad.dtype)).to(x.dtype), x) if want_x else None
        return dx, dweight, dbias


class GeluLinear(Linear):
    """GELU, then a linear layer. Keeps the input alone."""

    def forward(self, x: Tensor, after_gelu: bool = False) -> Tensor:
        """(..., C) -> (..., E); `after_gelu` says that the layer before has computed GELU."""
        if after_gelu or not trains_eagerly():
            return super().forward(x if after_gelu else F.gelu(x))
        result: Tensor = _GeluLinear.apply(as_multiplied(x), self.weight, self.bias)
        return result
