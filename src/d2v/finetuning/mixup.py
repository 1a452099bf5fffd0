"""Mixtures of two items and of their classes: mixup (Zhang et al. 2017) and cutmix (Yun et al. 2019).

An item's partner is its mirror in the micro-batch, so unlike order, augmentation and masks a mixture depends on how a
batch is cut into micro-batches. Shape legend: B images, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from d2v.config import MixConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MIXUP, seed_of
from d2v.errors import ConfigError


def mixed(batch: Batch, config: MixConfig, seed: int) -> Batch:
    """The batch mixed with its mirror image, all items by the same share; a pure function of (seed, update).

    Raises:
        ConfigError: the items are not images, or their targets are not classes.
    """
    if config.mixup == 0.0 and config.cutmix == 0.0:
        return batch
    if batch.inputs.ndim != 4 or batch.targets is None or batch.targets.ndim != 2:
        raise ConfigError("finetune.mix is for images with classes: set finetune.mix.mixup=0 and cutmix=0")
    random = np.random.Generator(np.random.Philox(key=[seed_of(seed, STREAM_MIXUP, batch.update), 0]))
    if random.random() >= config.probability:
        return batch
    cuts = config.mixup == 0.0 or (config.cutmix > 0.0 and random.random() < config.cutmix_share)
    alpha = config.cutmix if cuts else config.mixup
    share = float(random.beta(alpha, alpha))
    inputs, share = _cut(batch.inputs, share, random) if cuts else (_blend(batch.inputs, share), share)
    return replace(batch, inputs=inputs, targets=_blend(batch.targets, share))


def _blend(values: Tensor, share: float) -> Tensor:
    return values * share + values.flip(0) * (1.0 - share)


def _cut(images: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """A box of about 1 - `share` of the area from the partner, and the share that is left in the end."""
    height, width = images.shape[-2:]
    side = np.sqrt(1.0 - share)
    centre = int(random.integers(height)), int(random.integers(width))
    top, bottom = _interval(centre[0], side * height, height)
    left, right = _interval(centre[1], side * width, width)
    images = images.clone()
    images[..., top:bottom, left:right] = images.flip(0)[..., top:bottom, left:right]
    return images, 1.0 - (bottom - top) * (right - left) / (height * width)


def _interval(centre: int, length: float, size: int) -> tuple[int, int]:
    whole = int(length)
    return int(np.clip(centre - whole // 2, 0, size)), int(np.clip(centre + (whole + 1) // 2, 0, size))
