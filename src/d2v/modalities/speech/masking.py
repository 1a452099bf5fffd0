"""Span masks over frames, drawn from keys.

`is_masked` is True where a frame is masked. Shape legend: R rows, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2v.data.random import fold_in, uniform
from d2v.errors import ConfigError
from d2v.modalities.speech.config import BlockSpanMask, SpeechTrainConfig
from d2v.models.masking import (
    Count,
    exactly,
    floor_share,
    is_padding,
    paint_blocks,
    random_spans,
    some_but_not_all,
)


def num_masked(recipe: SpeechTrainConfig, tokens: Count) -> Count:
    """Frames that every block mask masks. Raises ConfigError for data2vec 1.0's spans, which vary."""
    if not isinstance(recipe.mask, BlockSpanMask):
        raise ConfigError(f"masks of the kind {recipe.mask.kind} mask no fixed number of frames: set mask.kind=block")
    mask = recipe.mask
    painted = floor_share(tokens, 1.0 - mask.ratio if mask.inverse else mask.ratio)
    return some_but_not_all(tokens - painted if mask.inverse else painted, tokens)


def draw_masks(recipe: SpeechTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
    """(R,) keys -> (R, T) is_masked by the recipe's kind of mask, over the frames of a row that are not padding."""
    mask = recipe.mask
    if isinstance(mask, BlockSpanMask):
        goal = num_masked(recipe, tokens) if lengths is None else num_masked(recipe, lengths)
        return block_spans(mask, keys, tokens, goal, lengths)
    return random_spans(keys, tokens, mask.ratio, mask.span, whole=True, min_spans=mask.min_spans, lengths=lengths)


def block_spans(config: BlockSpanMask, keys: Tensor, tokens: int, goal: int | Tensor, lengths: Tensor | None) -> Tensor:
    """data2vec 2.0's span masks: blocks around random centres, then random frames are added or removed until `goal`
    frames are masked; with `inverse` the blocks are what stays visible. (R, T) bool."""
    n = torch.full_like(keys, tokens) if lengths is None else lengths
    ratio = 1.0 - config.ratio if config.inverse else config.ratio
    share = (ratio + config.adjust) / config.block
    most = max(int(tokens * share), 1)
    chosen = (uniform(fold_in(keys, 0), most) * n[:, None]).long()
    surplus = is_padding(floor_share(n, share).clamp(min=1), most)
    painted = paint_blocks(torch.where(surplus, chosen[:, :1], chosen), (tokens,), config.block)
    if not config.inverse:
        return exactly(painted, goal, fold_in(keys, 1), lengths)
    visible = exactly(painted, (tokens if isinstance(goal, int) else n) - goal, fold_in(keys, 1), lengths)
    return ~visible & ~is_padding(n, tokens)
