"""Masks over the patch grid, drawn from keys. Their options are `VisionMaskConfig` in `config`.

`is_masked` is True where a patch is masked. Shape legend: R rows, T patches, g grid side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from d2v.data.random import fold_in, uniform
from d2v.errors import ConfigError
from d2v.modalities.vision.config import BeitMask, BlockMask, VisionTrainConfig
from d2v.models.masking import Count, exactly, floor_share, paint_blocks

BEIT_TRIES = 10


def draw_masks(recipe: VisionTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
    """(R,) keys -> (R, T) is_masked by the recipe's kind of mask; images are never padded."""
    side = recipe.encoder.grid
    if isinstance(recipe.mask, BlockMask):
        return block_masks(recipe.mask, side, keys)
    return beit_masks(recipe.mask, side, keys)


def num_masked(recipe: VisionTrainConfig, tokens: Count) -> Count:
    """Patches that every block mask masks. Raises ConfigError for BEiT masks, which vary."""
    if not isinstance(recipe.mask, BlockMask):
        raise ConfigError(f"masks of the kind {recipe.mask.kind} mask no fixed number of patches: set mask.kind=block")
    return count_masked(recipe.mask, tokens)


def count_masked(config: BlockMask, patches: Count) -> Count:
    """Patches that every block mask masks: exact, independent of seed and row."""
    painted = floor_share(patches, _painted_ratio(config))
    return patches - painted if config.inverse else painted


def _painted_ratio(config: BlockMask) -> float:
    return 1.0 - config.ratio if config.inverse else config.ratio


def block_masks(config: BlockMask, grid: int, keys: Tensor) -> Tensor:
    """data2vec 2.0's block masks: paint blocks around random centres, then add or remove random cells until the
    count is exact; with `inverse` the painted cells are the visible ones. (R, T) bool."""
    patches = grid * grid
    ratio = _painted_ratio(config)
    centres = int(patches * ((ratio + config.adjust) / config.block**2))
    chosen = (uniform(fold_in(keys, 0), centres) * patches).long()
    painted = paint_blocks(chosen, (grid, grid), config.block)
    painted = exactly(painted, int(patches * ratio), fold_in(keys, 1))
    return ~painted if config.inverse else painted


def beit_masks(config: BeitMask, grid: int, keys: Tensor) -> Tensor:
    """BEiT's block-wise masks: rectangles of random area and aspect until the budget is used up or ten tries in
    a row fail. A row never masks more than the budget, may mask fewer, and always masks at least one. (R, T) bool."""
    seeds = fold_in(keys, 2).cpu().numpy().astype(np.uint64)
    rows = [_beit_mask(config, grid, np.random.Generator(np.random.Philox(int(seed)))) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).to(keys.device)


def _beit_mask(config: BeitMask, grid: int, random: np.random.Generator) -> np.ndarray:
    budget = max(1, int(grid * grid * config.ratio))
    smallest = min(config.min_patches, budget)
    mask = np.zeros((grid, grid), dtype=bool)
    while (room := budget - int(mask.sum())) > 0:
        largest = room if config.shrink else max(room, smallest)
        rectangle = _beit_rectangle(mask, room, (smallest, largest), config.min_aspect, random)
        if rectangle is None:
            break
        mask[rectangle] = True
    if not mask.any():
        mask.flat[random.integers(mask.size)] = True
    return mask.ravel()


def _beit_rectangle(
    mask: np.ndarray, room: int, areas: tuple[int, int], min_aspect: float, random: np.random.Generator
) -> tuple[slice, slice] | None:
    """A rectangle of an area between two that masks between 1 and `room` new patches, or None after ten failures."""
    grid = len(mask)
    log_aspect = math.log(min_aspect), math.log(1.0 / min_aspect)
    for _ in range(BEIT_TRIES):
        area = random.uniform(*sorted(areas))
        aspect = math.exp(random.uniform(*log_aspect))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        top, left = int(random.integers(grid - height + 1)), int(random.integers(grid - width + 1))
        rectangle = slice(top, top + height), slice(left, left + width)
        fresh = height * width - int(mask[rectangle].sum())
        if 0 < fresh <= room:
            return rectangle
    return None
