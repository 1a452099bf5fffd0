"""Masks over tokens, drawn from keys.

`is_masked` is True where a token is masked. Shape legend: R rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2v.errors import ConfigError
from d2v.modalities.text.config import RandomMask, TextTrainConfig
from d2v.models.masking import Count, exactly, floor_share, random_spans, some_but_not_all


def num_masked(recipe: TextTrainConfig, tokens: Count) -> Count:
    """Tokens that every random mask masks: all but floor(tokens x (1 - ratio)). Raises ConfigError for spans, which
    vary."""
    if not isinstance(recipe.mask, RandomMask):
        raise ConfigError(f"masks of the kind {recipe.mask.kind} mask no fixed number of tokens: set mask.kind=random")
    return some_but_not_all(tokens - floor_share(tokens, 1.0 - recipe.mask.ratio), tokens)


def draw_masks(recipe: TextTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
    """(R,) keys -> (R, T) is_masked by the recipe's kind of mask, over the tokens of a row that are not padding."""
    mask = recipe.mask
    if isinstance(mask, RandomMask):
        none = torch.zeros(len(keys), tokens, dtype=torch.bool, device=keys.device)
        goal = num_masked(recipe, tokens) if lengths is None else num_masked(recipe, lengths)
        return exactly(none, goal, keys, lengths)
    return random_spans(keys, tokens, mask.ratio, mask.span, whole=False, lengths=lengths)
