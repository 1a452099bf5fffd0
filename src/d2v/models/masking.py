"""Masks as index sets, and the primitives that draw them from keys.

Shape legend: B samples, M masks per sample, T tokens, V visible, N hidden (= T - V).
`is_masked` is True where a token is hidden from the student.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2v.data.random import uniform


@dataclass(frozen=True)
class Masks:
    """The masks of one batch.

    Attributes:
        is_masked: (B*M, T) bool; rows of one sample are neighbours.
        visible_idx: (B, M, V) int64, ascending; None if rows differ in their number of hidden tokens.
        masked_idx: (B, M, N) int64, ascending; None likewise.
        count: () int64, hidden tokens in all rows, on the device of the masks.
    """

    is_masked: Tensor
    visible_idx: Tensor | None
    masked_idx: Tensor | None
    count: Tensor

    def indices(self) -> tuple[Tensor, Tensor]:
        """`visible_idx` and `masked_idx`. Raises ValueError for rows that differ in their number of hidden tokens."""
        if self.visible_idx is None or self.masked_idx is None:
            raise ValueError("ragged masks have no index sets: draw masks with equal counts to drop tokens")
        return self.visible_idx, self.masked_idx

    @staticmethod
    def with_equal_counts(is_masked: Tensor, samples: int, hidden: int) -> Masks:
        """Masks of which every row hides exactly `hidden` tokens. The sort is stable, so indices ascend."""
        rows, tokens = is_masked.shape
        order = torch.argsort(is_masked.to(torch.uint8), dim=1, stable=True)
        order = order.view(samples, rows // samples, tokens)
        visible = tokens - hidden
        count = torch.full((), rows * hidden, dtype=torch.int64, device=is_masked.device)
        return Masks(is_masked, order[..., :visible], order[..., visible:], count)

    @staticmethod
    def ragged(is_masked: Tensor) -> Masks:
        """Masks of which rows may hide different numbers of tokens."""
        return Masks(is_masked, None, None, is_masked.sum())


def exactly(painted: Tensor, goal: int, keys: Tensor) -> Tensor:
    """Add or remove random cells until `goal` are painted in each row.

    Args:
        painted: (rows, cells) bool.
        goal: cells painted in each row of the result.
        keys: (rows,) keys of the choice.

    Returns:
        (rows, cells) bool. A row with too many keeps a uniform subset of its painted cells; a row with too few
        gains a uniform subset of the others (spec of data2vec 2.0's block masks, step 4).
    """
    score = painted.to(torch.float32) + uniform(keys, painted.shape[1])
    chosen = score.topk(goal, dim=1).indices
    return torch.zeros_like(painted).scatter_(1, chosen, True)


def paint_blocks(centres: Tensor, grid: tuple[int, ...], block: int) -> Tensor:
    """Paint a block around every centre, clamped at the border.

    Args:
        centres: (rows, c) int64 flat cell indices.
        grid: cells along each axis, (T,) or (height, width).
        block: cells along each side of a block; offsets run from -(block // 2) to block - 1 - block // 2.

    Returns:
        (rows, cells) bool.
    """
    offsets = torch.arange(block, device=centres.device) - block // 2
    cells = torch.zeros_like(centres).unsqueeze(-1)
    stride = 1
    for size in reversed(grid):
        axis = ((centres // stride) % size).unsqueeze(-1) + offsets
        axis = axis.clamp_(0, size - 1) * stride
        cells = (cells.unsqueeze(-1) + axis.unsqueeze(-2)).flatten(2)
        stride *= size
    painted = torch.zeros(centres.shape[0], stride, dtype=torch.bool, device=centres.device)
    return painted.scatter_(1, cells.flatten(1), True)
