"""Counter-based randomness: every draw is a pure function of integer keys.

Nothing here has state, so order, augmentation and masks do not depend on ranks, workers, accumulation or on
where a run was interrupted. The generator is SplitMix64's finaliser (Steele, Lea, Flood 2014) in wrapping int64
arithmetic, which gives the same bits on every device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from d2v import moved

STREAM_ORDER, STREAM_AUGMENT, STREAM_MASK, STREAM_NOISE, STREAM_DROPOUT, STREAM_LAYER_DROP = range(6)
STREAM_REPLACE, STREAM_GUMBEL, STREAM_DISTRACTOR, STREAM_FEATURE_MASK, STREAM_MIXUP = range(6, 11)
"""First part of a key: different uses never share draws."""

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64
_MANTISSA_BITS = 24


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's >> on int64 repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _finalise(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def fold_in(*parts: int | Tensor) -> Tensor:
    """Fold integers and int64 tensors into one key each; tensors broadcast.

    Example:
        >>> fold_in(7, torch.arange(3)).shape
        torch.Size([3])
    """
    tensors = [p for p in parts if isinstance(p, Tensor)]
    device = tensors[0].device if tensors else None
    key = torch.zeros((), dtype=torch.int64, device=device)
    for part in parts:
        key = _finalise((key ^ part) * _MULTIPLIER_1 + _GOLDEN)
    return key


def uniform(keys: Tensor, draws: int) -> Tensor:
    """`draws` float32 numbers in [0, 1) for each of the (N,) keys: (N, draws)."""
    counters = torch.arange(1, draws + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    bits = _finalise(keys[:, None] + counters)
    return _shift_right(bits, 64 - _MANTISSA_BITS).to(torch.float32) * 2.0**-_MANTISSA_BITS


def normal(keys: Tensor, draws: int) -> Tensor:
    """`draws` float32 standard normal numbers for each of the (N,) keys: (N, draws), by Box and Muller's formula."""
    radius = (-2.0 * torch.log1p(-uniform(fold_in(keys, 0), draws))).sqrt()
    return radius * torch.cos(2.0 * math.pi * uniform(fold_in(keys, 1), draws))


def integers(keys: Tensor, below: int | Tensor) -> Tensor:
    """One int64 in [0, below) for each key, for `below` far under 2**40."""
    return _shift_right(_finalise(keys + _GOLDEN), 23).remainder(below)


def seed_of(*parts: int) -> int:
    """A non-negative seed for generators that want one (NumPy, torch), from the same keys."""
    return int(_shift_right(fold_in(*parts), 1))


if not TYPE_CHECKING:
    __getattr__ = moved.old_attributes(__name__)
