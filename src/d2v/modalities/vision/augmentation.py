"""What fine-tuning does to images beside cropping: RandAugment and random erasing, as pure functions of keys.

The operations are torchvision's; which one, how often and how strong follows timm's `rand-m9-mstd0.5-inc1`, with which
the published figures were made. torchvision's own RandAugment draws from torch's global generator, which a loader's
thread would share with dropout.

Shape legend: B images, P side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from d2v.data.random import fold_in, integers, normal, uniform
from d2v.modalities.vision.config import RandAugmentConfig
from d2v.modalities.vision.resampling import first_fit

STRONGEST = 10.0
ERASED_AREA, ERASED_ASPECT = (0.02, 1.0 / 3.0), (0.3, 10.0 / 3.0)

Fill = Sequence[float]
Vector = tuple[float, float]
Operation = Callable[[Tensor, float, Fill], Tensor]
"""(3, P, P) uint8, strength from -1 to 1, what stands where nothing was -> (3, P, P) uint8. The sign is a direction;
what has none takes the absolute value."""


def _factor(strength: float) -> float:
    """Of brightness, colour, contrast, sharpness: 1 is no change."""
    return max(0.1, 1.0 + 0.9 * strength)


def _moved(image: Tensor, fill: Fill, pixels: Vector = (0.0, 0.0), shear: Vector = (0.0, 0.0)) -> Tensor:
    degrees = [math.degrees(math.atan(tangent)) for tangent in shear]
    return F.affine(
        image,
        angle=0.0,
        translate=[round(distance) for distance in pixels],
        scale=1.0,
        shear=degrees,
        interpolation=InterpolationMode.BILINEAR,
        fill=list(fill),
        center=[0.0, 0.0],
    )


def _solarized(image: Tensor, threshold: int) -> Tensor:
    return torch.where(image < threshold, image, 255 - image)


def _brightened_shadows(image: Tensor, strength: float) -> Tensor:
    added = image + int(110 * abs(strength))
    return torch.where(image < 128, added, image)


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, _, __: F.autocontrast(image),
    "equalize": lambda image, _, __: F.equalize(image),
    "invert": lambda image, _, __: F.invert(image),
    "rotate": lambda image, s, fill: F.rotate(image, 30.0 * s, InterpolationMode.BILINEAR, fill=list(fill)),
    "posterize": lambda image, s, _: F.posterize(image, max(1, 4 - int(4.0 * abs(s)))),
    "solarize": lambda image, s, _: _solarized(image, 256 - int(256.0 * abs(s))),
    "solarize_add": lambda image, s, _: _brightened_shadows(image, s),
    "colour": lambda image, s, _: F.adjust_saturation(image, _factor(s)),
    "contrast": lambda image, s, _: F.adjust_contrast(image, _factor(s)),
    "brightness": lambda image, s, _: F.adjust_brightness(image, _factor(s)),
    "sharpness": lambda image, s, _: F.adjust_sharpness(image, _factor(s)),
    "shear_x": lambda image, s, fill: _moved(image, fill, shear=(0.3 * s, 0.0)),
    "shear_y": lambda image, s, fill: _moved(image, fill, shear=(0.0, 0.3 * s)),
    "translate_x": lambda image, s, fill: _moved(image, fill, pixels=(-0.45 * s * image.shape[2], 0.0)),
    "translate_y": lambda image, s, fill: _moved(image, fill, pixels=(0.0, -0.45 * s * image.shape[1])),
}


def rand_augment(images_BCPP: Tensor, keys: Tensor, config: RandAugmentConfig, fill: Fill) -> Tensor:
    """Some random operations one after the other (RandAugment, Cubuk et al. 2020).

    Args:
        images_BCPP: (B, 3, P, P) uint8.
        keys: (B,); the result is a pure function of them.
        config: how many operations, how likely and how strong.
        fill: three values in 0..255 that stand where nothing was.
    """
    images = list(images_BCPP)
    names = list(OPERATIONS)
    for number in range(config.operations):
        key = fold_in(keys, number)
        which = integers(key, len(names)).tolist()
        draws = uniform(fold_in(key, 1), 2)
        noise = normal(fold_in(key, 2), 1)[:, 0]
        strength = (config.magnitude + config.magnitude_std * noise).clamp(0.0, STRONGEST) / STRONGEST
        signed = torch.where(draws[:, 0] < 0.5, strength, -strength).tolist()
        done = (draws[:, 1] < config.probability).tolist()
        images = [
            OPERATIONS[names[w]](image, s, fill) if do else image
            for image, w, s, do in zip(images, which, signed, done, strict=True)
        ]
    return torch.stack(images)


def erase(images_BCPP: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Put noise into one box of some images (random erasing, Zhong et al. 2017, with pixels of their own).

    Args:
        images_BCPP: (B, 3, P, P) normalised.
        keys: (B,); the result is a pure function of them.
        probability: that an image has a box; where ten boxes in turn do not fit, it has none.
    """
    size = images_BCPP.shape[-1]
    chosen = (uniform(fold_in(keys, 0), 1)[:, 0] < probability).nonzero()[:, 0]
    side = torch.full((len(chosen),), size)
    box, fits = first_fit(fold_in(keys[chosen], 1), side, side, ERASED_AREA, ERASED_ASPECT)
    chosen, keys = chosen[fits], keys[chosen][fits]
    top, left, height, width = (value[fits][:, None] for value in (box.top, box.left, box.height, box.width))
    position = torch.arange(size)[None]
    rows_NP, columns_NP = (position >= top) & (position < top + height), (position >= left) & (position < left + width)
    is_erased = (rows_NP[:, :, None] & columns_NP[:, None, :])[:, None]
    before = images_BCPP[chosen]
    noise = normal(fold_in(keys, 2), before[0].numel() if len(before) else 0).view_as(before)
    out = images_BCPP.clone()
    out[chosen] = torch.where(is_erased, noise, before)
    return out
