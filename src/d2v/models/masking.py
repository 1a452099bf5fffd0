"""Masks as index sets, and the primitives that draw them from keys.

Shape legend: B samples, M masks per sample, R rows (B*M), T tokens, V visible, N masked (= T - V).
`is_masked` is True where a token is masked from the student; it is never True at padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.data.random import fold_in, uniform

Count = TypeVar("Count", int, Tensor)
"""A number of tokens, or one of each row."""


@dataclass(frozen=True)
class Masks:
    """The masks of one batch.

    Attributes:
        is_masked: (R, T) bool; rows of one sample are neighbours.
        visible_idx: (B, M, V) int64, ascending; None if rows differ in their number of masked tokens.
        masked_idx: (B, M, N) int64, ascending; None likewise, and with padding.
        count: () int64, masked tokens in all rows, on the device of the masks.
        visible_lengths: (R,) how many of the V indices are visible tokens, where padding fills up the rest of them;
            None without padding.
    """

    is_masked: Tensor
    visible_idx: Tensor | None
    masked_idx: Tensor | None
    count: Tensor
    visible_lengths: Tensor | None = None

    def visible(self) -> Tensor:
        """`visible_idx`. Raises ValueError for rows that differ in their number of masked tokens."""
        if self.visible_idx is None:
            raise ValueError("ragged masks have no index sets: draw masks with equal counts to drop tokens")
        return self.visible_idx

    @staticmethod
    def with_equal_counts(is_masked: Tensor, samples: int, num_masked: int) -> Masks:
        """Masks of which every row masks exactly `num_masked` tokens. The sort is stable, so indices ascend."""
        rows, tokens = is_masked.shape
        order = torch.argsort(is_masked.to(torch.uint8), dim=1, stable=True)
        order = order.view(samples, rows // samples, tokens)
        visible = tokens - num_masked
        count = torch.full((), rows * num_masked, dtype=torch.int64, device=is_masked.device)
        return Masks(is_masked, order[..., :visible], order[..., visible:], count)

    @staticmethod
    def with_padding(is_masked: Tensor, lengths: Tensor, num_masked: int) -> Masks:
        """Masks over sequences that end in padding.

        Args:
            is_masked: (R, T), False at padding; no row masks more than `num_masked` tokens or leaves more than
                T - `num_masked` visible.
            lengths: (B,) tokens that are not padding.
            num_masked: N of a sequence without padding.
        """
        rows, tokens = is_masked.shape
        row_lengths = lengths.repeat_interleave(rows // len(lengths))
        rank = 2 * is_masked.to(torch.uint8) + is_padding(row_lengths, tokens)  # visible, padding, masked
        order = torch.argsort(rank, dim=1, stable=True)[:, : tokens - num_masked]
        visible_idx = order.view(len(lengths), rows // len(lengths), -1)
        return Masks(is_masked, visible_idx, None, is_masked.sum(), row_lengths - is_masked.sum(dim=1))

    @staticmethod
    def ragged(is_masked: Tensor) -> Masks:
        """Masks of which rows may mask different numbers of tokens."""
        return Masks(is_masked, None, None, is_masked.sum())


def rounded_up(number: int) -> int:
    """The next number that has nothing but zeros behind its first five binary digits: at most a sixteenth more.

    A size that differs from update to update costs libraries a new kernel, and the allocator a new block, each time."""
    step = 1 << max(number.bit_length() - 5, 0)
    return -(-number // step) * step


@dataclass(frozen=True)
class Selected:
    """Some tokens of a batch, in any order.

    Attributes:
        index: (N,) int64 row * T + token.
        rows: B.
        tokens: T.
        fill: how many of the last are there to fill up N alone.
    """

    index: Tensor
    rows: int
    tokens: int
    fill: int = 0

    @staticmethod
    def masked(masks: Masks) -> Selected:
        """The masked tokens under one mask per sample, row by row.

        Where all rows mask as many, their number is known and nothing waits for the device; where not, it is rounded
        up, and the batch's first token fills it up.
        """
        rows, tokens = masks.is_masked.shape
        if masks.masked_idx is not None:
            return Selected.at(masks.masked_idx[:, 0], tokens)
        index = masks.is_masked.flatten().nonzero().squeeze(1)
        fill = rounded_up(len(index)) - len(index)
        return Selected(F.pad(index, (0, fill)), rows, tokens, fill)

    @staticmethod
    def at(index_BN: Tensor, tokens: int) -> Selected:
        """As many tokens of each row, row by row."""
        rows = len(index_BN)
        first_B1 = tokens * torch.arange(rows, device=index_BN.device)[:, None]
        return Selected((first_B1 + index_BN).flatten(), rows, tokens)

    def behind(self, extra: int) -> Selected:
        """The same tokens where so many others stand in front of each row."""
        index = self.index + (self.row_of() + 1) * extra if extra else self.index
        return Selected(index, self.rows, self.tokens + extra, self.fill)

    def row_of(self) -> Tensor:
        """(N,) the row of each."""
        return self.index // self.tokens

    def of(self, x: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)."""
        return x.flatten(0, 1).index_select(0, self.index)

    def without_fill(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N - fill, ...)."""
        return x[: len(x) - self.fill]


def floor_share(tokens: Count, share: float) -> Count:
    """floor(tokens x share), in float64 for both kinds: float32 would give another count for some tokens."""
    return (tokens.double() * share).long() if isinstance(tokens, Tensor) else int(tokens * share)


def some_but_not_all(masked: Count, tokens: Count) -> Count:
    """`masked`, but at least 1 and at most tokens - 1."""
    if isinstance(masked, Tensor):
        return torch.minimum(masked.clamp(min=1), tokens - 1)
    return min(max(masked, 1), tokens - 1)


def is_padding(lengths: Tensor, tokens: int) -> Tensor:
    """(R,) lengths -> (R, tokens) bool, True at padding."""
    return torch.arange(tokens, device=lengths.device) >= lengths[:, None]


def gather_tokens(x_BTD: Tensor, index_BMV: Tensor) -> Tensor:
    """(B, T, D) and (B, M, V) -> (B*M, V, D)."""
    samples, masks, tokens = index_BMV.shape
    first_B1 = x_BTD.shape[1] * torch.arange(samples, device=x_BTD.device)[:, None]
    return tokens_at(x_BTD, (first_B1 + index_BMV.flatten(1)).flatten()).view(samples * masks, tokens, -1)


def tokens_at(x_BTD: Tensor, index_N: Tensor) -> Tensor:
    """(B, T, D) and (N,) row * T + position of each token, which may be there several times -> (N, D).

    A CPU selects whole tokens, and sums their gradients, four to twelve times as fast as it indexes. A GPU would sum
    them in any order, so there they are indexed.
    """
    flat = x_BTD.flatten(0, 1)
    return flat.index_select(0, index_N) if x_BTD.is_cpu else flat[index_N]


def exactly(painted: Tensor, goal: int | Tensor, keys: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Add or remove random cells until `goal` are painted in each row.

    Args:
        painted: (rows, cells) bool.
        goal: cells painted in each row of the result; (rows,) where rows differ.
        keys: (rows,) keys of the choice.
        lengths: (rows,) cells that may be painted, counted from the first; None: all.

    Returns:
        (rows, cells) bool. A row with too many keeps a uniform subset of its painted cells; a row with too few
        gains a uniform subset of the others (spec of data2vec 2.0's block masks, step 4).
    """
    score = painted.to(torch.float32) + uniform(keys, painted.shape[1])
    if lengths is not None:
        score = score.masked_fill(is_padding(lengths, painted.shape[1]), -1.0)
    if isinstance(goal, int):
        chosen = score.topk(goal, dim=1).indices
        return torch.zeros_like(painted).scatter_(1, chosen, True)
    order = score.argsort(dim=1, descending=True)
    return torch.zeros_like(painted).scatter_(1, order, ~is_padding(goal, painted.shape[1]))


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


def random_spans(
    keys: Tensor,
    tokens: int,
    ratio: float,
    span: int,
    whole: bool,
    min_spans: int = 1,
    lengths: Tensor | None = None,
) -> Tensor:
    """Spans of `span` tokens from random starts, overlaps allowed (wav2vec 2.0 section 3.1, as in fairseq).

    floor(ratio * n / span + u) starts, u uniform in [0, 1), are drawn without replacement from the n tokens of a row.
    At least one token of every row is masked and one visible.

    Args:
        keys: (rows,).
        tokens: T.
        ratio: share of tokens that spans would cover if they did not overlap.
        span: tokens of a span.
        whole: whether a span must end within the row; else it may be cut off at the end.
        min_spans: fewest spans of a row.
        lengths: (rows,) n; None: T.

    Returns:
        (rows, T) bool.
    """
    n = torch.full_like(keys, tokens) if lengths is None else lengths
    spans = (ratio * n / span + uniform(fold_in(keys, 0), 1)[:, 0]).long().clamp_(min=min_spans)
    room = n - span if whole else n
    room = torch.where(room <= spans, n - spans - 1, room).clamp_(min=1)
    spans = torch.minimum(spans, room)
    most = min(max(int(ratio * tokens / span) + 1, min_spans), tokens)
    score = uniform(fold_in(keys, 1), tokens).masked_fill(is_padding(room, tokens), -1.0)
    starts = score.topk(most, dim=1).indices.masked_fill(is_padding(spans, most), tokens)
    cells = (starts.unsqueeze(-1) + torch.arange(span, device=keys.device)).flatten(1).clamp_(max=tokens)
    painted = torch.zeros(len(keys), tokens + 1, dtype=torch.bool, device=keys.device).scatter_(1, cells, True)
    painted = painted[:, :tokens] & ~is_padding(n, tokens)
    one = (uniform(fold_in(keys, 2), 1) * n[:, None]).long()
    full = painted.sum(dim=1, keepdim=True) == n[:, None]
    return painted.scatter(1, one, painted.gather(1, one) & ~full)
