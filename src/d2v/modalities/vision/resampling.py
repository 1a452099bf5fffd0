"""Crop, resize and flip of a whole batch as two small matrix products per image.

Resampling is separable and linear: out = rows @ image @ columns^T, with one row of weights per output pixel. The
weights are Pillow's (and torch's, with antialias): a cubic kernel with a = -0.5, widened when shrinking.

Shape legend: B images, S side of the stored image, P side of the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2v.data.random import uniform

CUBIC_A = -0.5
CROP_TRIES = 10
ASPECT = (3.0 / 4.0, 4.0 / 3.0)
DRAWS = 2 * CROP_TRIES + 3


@dataclass(frozen=True)
class Crops:
    """Boxes in pixels and flips, one per image: (B,) int64 each, `flip` bool."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


def draw_crops(keys: Tensor, heights: Tensor, widths: Tensor, scale: tuple[float, float], flip: float) -> Crops:
    """Random resized crops as torchvision draws them: an area in `scale`, an aspect log-uniform in 3/4 to 4/3, the
    first of ten tries that fits, else the largest central box of an allowed aspect.

    Args:
        keys: (B,) keys; the result is a pure function of them.
        heights, widths: (B,) sides of the images in pixels.
        scale: smallest and largest share of the area.
        flip: probability of a horizontal flip.
    """
    box, fits = first_fit(keys, heights, widths, scale, ASPECT)
    height = torch.where(fits, box.height, _central(heights, widths))
    width = torch.where(fits, box.width, _central(widths, heights))
    return Crops(
        torch.where(fits, box.top, (heights - height) // 2),
        torch.where(fits, box.left, (widths - width) // 2),
        height,
        width,
        box.flip_draw < flip,
    )


@dataclass(frozen=True)
class Boxes:
    """Boxes in pixels, one per image: (B,) int64 each; `flip_draw` (B,) is a number in [0, 1) for the image's flip."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip_draw: Tensor


def first_fit(
    keys: Tensor, heights: Tensor, widths: Tensor, scale: tuple[float, float], aspect: tuple[float, float]
) -> tuple[Boxes, Tensor]:
    """The first of ten random boxes that lies within its image, and (B,) whether one does.

    Args:
        keys: (B,) keys.
        heights, widths: (B,) sides of the images in pixels.
        scale: smallest and largest share of the area, even between.
        aspect: narrowest and widest, log-uniform between.
    """
    draws = uniform(keys, DRAWS)
    area = (heights * widths)[:, None] * (scale[0] + (scale[1] - scale[0]) * draws[:, :CROP_TRIES])
    low, high = torch.tensor(aspect).log().tolist()
    aspects = torch.exp(low + (high - low) * draws[:, CROP_TRIES : 2 * CROP_TRIES])
    tried_width, tried_height = (area * aspects).sqrt().round().long(), (area / aspects).sqrt().round().long()
    fits = (
        (tried_width > 0) & (tried_height > 0) & (tried_width <= widths[:, None]) & (tried_height <= heights[:, None])
    )
    first = fits.float().argmax(dim=1, keepdim=True)
    height, width = tried_height.gather(1, first)[:, 0], tried_width.gather(1, first)[:, 0]
    top = (draws[:, -3] * (heights - height + 1)).long()
    left = (draws[:, -2] * (widths - width + 1)).long()
    return Boxes(top, left, height, width, draws[:, -1]), fits.any(dim=1)


def _central(side: Tensor, other: Tensor) -> Tensor:
    """This side of the largest box whose aspect is allowed."""
    return torch.minimum(side, (other * ASPECT[1]).round().long()).clamp_min(1)


def resample(images_BSSC: Tensor, crops: Crops, out_px: int) -> Tensor:
    """Cut out, resize and flip.

    Args:
        images_BSSC: (B, S, S, C) uint8.
        crops: boxes inside the images.
        out_px: P.

    Returns:
        (B, C, P, P) float32 in 0..255, cubic overshoot clamped.
    """
    size = images_BSSC.shape[1]
    rows_BPS = resize_weights(crops.top, crops.height, size, out_px)
    columns_BPS = resize_weights(crops.left, crops.width, size, out_px)
    columns_BPS = torch.where(crops.flip[:, None, None], columns_BPS.flip(1), columns_BPS)
    images_BCSS = images_BSSC.permute(0, 3, 1, 2).float()
    return (rows_BPS[:, None] @ images_BCSS @ columns_BPS[:, None].transpose(2, 3)).clamp_(0.0, 255.0)


def resize_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """(B, out, size) weights that resize the pixels start .. start + length - 1 of `size` to `out`."""
    scale = (length / out)[:, None, None]
    support = scale.clamp_min(1.0)
    centre = (torch.arange(out, device=start.device)[None, :, None] + 0.5) * scale
    pixel = torch.arange(size, device=start.device)[None, None, :] - start[:, None, None]
    weights = _cubic((pixel + 0.5 - centre) / support)
    weights = weights * ((pixel >= 0) & (pixel < length[:, None, None]))
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC_A
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def jitter_colours(images_BCPP: Tensor, keys: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and saturation, each by a factor in 1 - strength .. 1 + strength, in this order.

    torchvision shuffles the order per image; means over images are the same.

    Args:
        images_BCPP: (B, 3, P, P) in 0..255.
        keys: (B,) keys.
        strength: largest change.
    """
    factors = (1.0 + strength * (2.0 * uniform(keys, 3) - 1.0)).clamp_min(0.0)[:, :, None, None, None]
    x = (images_BCPP * factors[:, 0]).clamp_(0.0, 255.0)
    mean = _grey(x).mean(dim=(2, 3), keepdim=True)
    x = (mean + factors[:, 1] * (x - mean)).clamp_(0.0, 255.0)
    grey = _grey(x)
    return (grey + factors[:, 2] * (x - grey)).clamp_(0.0, 255.0)


def _grey(x_BCPP: Tensor) -> Tensor:
    weights = torch.tensor((0.2989, 0.587, 0.114), device=x_BCPP.device)[:, None, None]
    return (x_BCPP * weights).sum(dim=1, keepdim=True)
