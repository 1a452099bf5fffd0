"""Masks over patches, drawn from keys.

`is_masked` is True where a token is hidden. Shape legend: R rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2v.modalities.series.config import SeriesTrainConfig
from d2v.models.masking import Count, exactly, floor_share, some_but_not_all


def grid(recipe: SeriesTrainConfig) -> None:
    """None: patches are a sequence."""


def max_tokens(recipe: SeriesTrainConfig) -> int:
    """Patches of the longest series."""
    return recipe.encoder.max_tokens


def hidden_tokens(recipe: SeriesTrainConfig, tokens: Count) -> Count:
    """Patches that every mask hides."""
    return some_but_not_all(floor_share(tokens, recipe.mask.ratio), tokens)


def draw_masks(recipe: SeriesTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
    """(R,) keys -> (R, T) is_masked, over the tokens of a row that are not padding."""
    none = torch.zeros(len(keys), tokens, dtype=torch.bool, device=keys.device)
    goal = hidden_tokens(recipe, tokens) if lengths is None else hidden_tokens(recipe, lengths)
    return exactly(none, goal, keys, lengths)
