"""ALiBi (Press et al. 2022): attention logits fall with the distance between tokens.

Shape legend: H heads, T patches, g grid side.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def alibi_slopes(heads: int) -> Tensor:
    """(H,) slopes of ALiBi (Press et al. 2022): 2^(-8 (i + 1) / H) for a power of two; otherwise those of the power of
    two below, then every other one of twice that."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return torch.tensor((slopes + between)[:heads])


def grid_distances(grid: int, distance: Literal["manhattan", "euclidean"]) -> Tensor:
    """(T, T) distances between the patches of a square grid, row by row, in patches."""
    axis = torch.arange(grid, dtype=torch.float32)
    row, column = (a.flatten() for a in torch.meshgrid(axis, axis, indexing="ij"))
    rows, columns = (row[:, None] - row[None]).abs(), (column[:, None] - column[None]).abs()
    return rows + columns if distance == "manhattan" else (rows.square() + columns.square()).sqrt()


def beside_extra_tokens(bias: Tensor, extra_tokens: int) -> Tensor:
    """(..., T, T) -> (..., E+T, E+T): extra tokens in front are at no distance from any token."""
    return F.pad(bias, (extra_tokens, 0, extra_tokens, 0)) if extra_tokens else bias
