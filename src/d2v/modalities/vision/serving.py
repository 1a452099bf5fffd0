"""What users send to a trained image encoder, and how it becomes the encoder's input."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.requests import Limits, Request, file_in, refusing
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.reading import decode, read_image

COLUMN = "image"


def read_item(item: bytes | np.ndarray, limits: Limits) -> np.ndarray:
    """An image (height, width, 3) of uint8, as ingest would read it.

    Args:
        item: a file, or an array (see `read_image`).
        limits: its bytes and pixels.

    Raises:
        Rejected: with the reason.
    """
    ingest = VisionIngestConfig.model_validate(
        {"source": "", "min_side_px": 1, "max_pixels": limits.pixels, "max_item_bytes": limits.item_bytes}
    )
    return decode(read_image(item, ingest).data)


def to_inputs(images: np.ndarray | Sequence[np.ndarray], config: dict[str, Any]) -> Inputs:
    """Images as the encoder was trained on them.

    Args:
        images: (n, height, width, 3), or n arrays (height, width, 3) of any sizes; uint8, or float in [0, 1].
        config: the encoder's config.json: its side, mean and standard deviation.

    Returns:
        (n, 3, side, side) float32.

    Raises:
        DataError: another shape or type.
    """
    if isinstance(images, np.ndarray) or not len(images):
        return Inputs(_resized(np.asarray(images), config))
    return Inputs(torch.cat([_resized(np.asarray(image)[None], config) for image in images]))


def _resized(images: np.ndarray, config: dict[str, Any]) -> Tensor:
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
    return (tensor - mean) / std


def _example(config: dict[str, Any]) -> dict[str, str]:
    """A black image."""
    file, side = io.BytesIO(), int(config["recipe"]["encoder"]["image_px"])
    Image.new("RGB", (side, side)).save(file, "PNG")
    return {COLUMN: base64.b64encode(file.getvalue()).decode()}


def _read(cells: Mapping[str, Any], limits: Limits) -> np.ndarray:
    with refusing("image"):
        return read_item(file_in(cells[COLUMN]), limits)


REQUEST = Request((COLUMN,), _example, _read)
"""Images as files: PNG, JPEG and whatever else Pillow reads."""
