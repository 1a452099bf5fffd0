"""What users send to a trained image encoder, and how it becomes the encoder's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from d2v.data.batch import Inputs
from d2v.errors import DataError


def example_request(config: dict[str, Any]) -> np.ndarray:
    """A valid request for an encoder: one black image (1, side, side, 3) uint8. `config` is its config.json."""
    side = int(config["recipe"]["encoder"]["image_px"])
    return np.zeros((1, side, side, 3), dtype=np.uint8)


def to_inputs(images: np.ndarray, config: dict[str, Any]) -> Inputs:
    """Images as the encoder was trained on them.

    Args:
        images: (n, height, width, 3) uint8, or float in [0, 1].
        config: the encoder's config.json: its side, mean and standard deviation.

    Returns:
        (n, 3, side, side) float32.

    Raises:
        DataError: another shape or type.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(f"images have the shape {images.shape}: give (number, height, width, 3)")
    if images.dtype == np.uint8:
        scaled = images.astype(np.float32) / 255.0
    elif np.issubdtype(images.dtype, np.floating):
        scaled = images.astype(np.float32)
    else:
        raise DataError(f"images have the type {images.dtype}: give uint8 from 0 to 255 or float from 0 to 1")
    side = int(config["recipe"]["encoder"]["image_px"])
    tensor = torch.from_numpy(scaled).permute(0, 3, 1, 2)
    if tensor.shape[-2:] != (side, side):
        tensor = interpolate(tensor, (side, side), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return Inputs((tensor - mean) / std)
