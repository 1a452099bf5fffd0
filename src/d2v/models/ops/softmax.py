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
    """Over the last axis, computed in at least float32 and rounded to the type of the logits."""
    length, dtype = logits_NTT.shape[-1], logits_NTT.dtype
    if length < _VECTOR:
        return _padded(logits_NTT, -torch.inf).softmax(dim=-1)[..., :length].to(dtype).contiguous()
    wide = _wide(dtype) if length < _SHORT else dtype
    return logits_NTT.to(wide).softmax(dim=-1).to(dtype)


def softmax_backward(grad_NTT: Tensor, weights_NTT: Tensor) -> Tensor:
    """The gradient of the logits, from the gradient of what `softmax` gave."""
    length, dtype = weights_NTT.shape[-1], weights_NTT.dtype
    if length < _VECTOR:
        grad, weights = _padded(grad_NTT, 0.0), _padded(weights_NTT, 0.0)
        return _BACKWARD(grad, weights, -1, grad.dtype)[..., :length].to(dtype).contiguous()
    wide = _wide(dtype) if length < _SHORT_BACKWARD else dtype
    return _BACKWARD(grad_NTT.to(wide), weights_NTT.to(wide), -1, wide).to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _padded(x_NTT: Tensor, rest: float) -> Tensor:
    """In at least float32, with rows that are one vector long."""
    padded = torch.empty(*x_NTT.shape[:-1], _VECTOR, dtype=_wide(x_NTT.dtype))
    padded[..., x_NTT.shape[-1] :] = rest
    padded[..., : x_NTT.shape[-1]] = x_NTT
    return padded
