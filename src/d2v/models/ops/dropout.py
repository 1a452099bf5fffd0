"""Dropout whose random numbers cost little on a CPU.

torch draws one 64-bit number after the other there for every element, on one core. Here each gives four decisions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LEVELS = 2**16


def draw_kept(x: Tensor, rate: float) -> tuple[Tensor, float]:
    """Which elements of a tensor on the CPU stay, and what they are multiplied by so that the mean stays.

    1 and 0 are int8, not bool, which CPUs convert five times more slowly.
    """
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    dropped = min(max(round(rate * _LEVELS), 1), _LEVELS - 1)
    last = dropped - 1 - _LEVELS // 2
    kept = draws.view(torch.int16)[: x.numel()].clamp_(last, last + 1).sub_(last).to(torch.int8)
    return kept.view(x.shape), _LEVELS / (_LEVELS - dropped)


def keep(x: Tensor, kept: Tensor) -> Tensor:
    """`x` with 0 for the elements that do not stay."""
    return x * kept.to(x.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        kept, ctx.factor = draw_kept(x, rate)
        ctx.save_for_backward(kept)
        return keep(x, kept).mul_(ctx.factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return keep(grad, kept).mul_(ctx.factor), None


def dropout(x: Tensor, rate: float) -> Tensor:
    """Each element is 0 with probability `rate` and otherwise divided by 1 - `rate`.

    On a CPU `rate` is rounded to a multiple of 2^-16, at least one, and so is the factor, so the mean stays.
    """
    if x.device.type != "cpu" or not 0.0 < rate < 1.0 or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    dropped: Tensor = _Dropout.apply(x, rate)
    return dropped


class Dropout(nn.Dropout):
    """`dropout` in training, nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p > 0.0 else x
