"""Softmax of short rows on a CPU.

torch takes rows in vectors there, and the rest of a row one by one: rows of 13 float32 or of 20 bfloat16 are four times
as slow as rows of one whole vector. Here rows become float32 and at least one vector long.

Shape legend: N rows, T their length.
"""

from __future__ import annotations

import torch
from torch import Tensor

_VECTOR = 16
"""Values of float32 that the widest processors take at once."""
_SHORT, _SHORT_BACKWARD = 64, 32
"""Rows from which on torch's own are as fast in bfloat16."""
_BACKWARD = torch.ops.aten._softmax_backward_data


def softmax(logits_NTT: Tensor) -> Tensor:
    """Over the last axis, computed in float32 and rounded to the type of the logits."""
    length, dtype = logits_NTT.shape[-1], logits_NTT.dtype
    if length < _VECTOR:
        return _widened(logits_NTT, -torch.inf).softmax(dim=-1)[..., :length].to(dtype).contiguous()
    if dtype == torch.float32 or length >= _SHORT:
        return logits_NTT.softmax(dim=-1)
    return logits_NTT.float().softmax(dim=-1).to(dtype)


def softmax_backward(grad_NTT: Tensor, weights_NTT: Tensor) -> Tensor:
    """The gradient of the logits, from the gradient of what `softmax` gave."""
    length, dtype = weights_NTT.shape[-1], weights_NTT.dtype
    if length < _VECTOR:
        grad, weights = _widened(grad_NTT, 0.0), _widened(weights_NTT, 0.0)
        return _BACKWARD(grad, weights, -1, grad.dtype)[..., :length].to(dtype).contiguous()
    if dtype == torch.float32 or length >= _SHORT_BACKWARD:
        return _BACKWARD(grad_NTT, weights_NTT, -1, dtype)
    return _BACKWARD(grad_NTT.float(), weights_NTT.float(), -1, torch.float32).to(dtype)


def _widened(x_NTT: Tensor, rest: float) -> Tensor:
    """In at least float32, with rows that are one vector long."""
    wide = torch.promote_types(x_NTT.dtype, torch.float32)
    padded = torch.empty(*x_NTT.shape[:-1], _VECTOR, dtype=wide)
    padded[..., x_NTT.shape[-1] :] = rest
    padded[..., : x_NTT.shape[-1]] = x_NTT
    return padded
