"""Masks over patches, drawn from keys.

`is_masked` is True where a token is masked. Shape legend: R rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2v.modalities.series.config import SeriesTrainConfig
from d2v.models.masking import Count, exactly, floor_share, some_but_not_all


def num_masked(recipe: SeriesTrainConfig, tokens: Count) -> Count:
    """Patches that every mask masks."""
    return some_but_not_all(floor_share(tokens, recipe.mask.ratio), tokens)


def draw_masks(recipe: SeriesTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
    """(R,) keys -> (R, T) is_masked, over the tokens of a row that are not padding."""
    none = torch.zeros(len(keys), tokens, dtype=torch.bool, device=keys.device)
    goal = num_masked(recipe, tokens) if lengths is None else num_masked(recipe, lengths)
    return exactly(none, goal, keys, lengths)
