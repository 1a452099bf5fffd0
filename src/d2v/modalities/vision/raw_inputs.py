"""Images as people have them, and how they become an encoder's input: Python objects, files, requests, exports."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from d2v.data.batch import Inputs
from d2v.data.ingest import Record
from d2v.errors import DataError
from d2v.modalities.base import Preprocessing, encoder_block
from d2v.modalities.requests import OWN_FILES, Limits, Request, file_bytes, file_in, refusing, using
from d2v.modalities.vision.config import VisionEncoderConfig, VisionIngestConfig
from d2v.modalities.vision.foreign import RESAMPLING
from d2v.modalities.vision.reading import ADVICE, decode, read_image

if TYPE_CHECKING:
    from torch import Tensor

COLUMN = "image"
CHANNELS = (1, 3, 4)
"""Grey, colours, colours with opacity."""
BICUBIC = 3
"""Pillow's number of it."""
RESIZING = (
    "transformers rounds resized images to 8 bits, and d2v does not: features differ by some thousandths of the "
    "largest where images do not have the encoder's side; photographs are not turned as their EXIF data say (call "
    "PIL.ImageOps.exif_transpose), and 16 bits are not scaled to 8 there"
)


def is_item(given: object) -> bool:
    """A file or its bytes, a PIL image, or an array of at most three axes."""
    return isinstance(given, str | Path | bytes | Image.Image) or (isinstance(given, np.ndarray) and given.ndim <= 3)


def read_item(item: object) -> np.ndarray:
    """An image (height, width, 3) of uint8, as ingest would read it.

    Args:
        item: a file or its bytes, a PIL image, or an array (height, width), (height, width, channels) or (channels,
            height, width) with 1, 3 or 4 channels, of the types that `pixels.eight_bit` takes, such as uint8, uint16,
            or float from 0 to 1. Where both orders are possible, channels are the last axis.

    Raises:
        DataError: it is not an image, or cannot be used.
    """
    from torch import Tensor

    if isinstance(item, Tensor):
        item = item.numpy(force=True)
    if isinstance(item, np.ndarray):
        item = channels_last(item)
    if isinstance(item, np.ndarray) and item.ndim == 3 and item.shape[-1] == 3 and item.dtype == np.uint8:
        return item
    name = item if isinstance(item, str | Path) else "an image"
    if isinstance(item, str | Path):
        item = file_bytes(item)
    if not isinstance(item, bytes | np.ndarray | Image.Image):
        raise DataError(f"{type(item).__name__} is not an image: give a file, a PIL image or an array")
    with using(name):
        return _decoded(item, OWN_FILES)


def channels_last(image: np.ndarray) -> np.ndarray:
    """(height, width, channels) of an array in either order; (height, width) stays as it is.

    Raises:
        DataError: neither axis can be the channels.
    """
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in CHANNELS):
        return image
    if image.ndim == 3 and image.shape[0] in CHANNELS:
        return np.moveaxis(image, 0, -1)
    raise DataError(
        f"an array of the shape {image.shape} is no image: give (height, width), (height, width, channels) or "
        f"(channels, height, width) with {', '.join(map(str, CHANNELS[:-1]))} or {CHANNELS[-1]} channels"
    )


def _decoded(item: bytes | np.ndarray | Image.Image, limits: Limits) -> np.ndarray:
    """(height, width, 3) of uint8, as ingest would read it. Raises Rejected with the reason."""
    return from_record(read_image(item, VisionIngestConfig.model_validate({"source": "", **ingest_limits(limits)})))


def ingest_limits(limits: Limits) -> dict[str, object]:
    """Values of the ingest block that refuse what is above the limits, and nothing that is only too small to train
    on."""
    return {"min_side_px": 1, "max_pixels": limits.pixels, "max_item_bytes": limits.item_bytes}


def from_record(record: Record) -> np.ndarray:
    """An image (height, width, 3) of uint8, from what ingest stores of it. Warns of one that may be too dark."""
    for note in record.note.split(", "):
        if note in ADVICE:
            warnings.warn(f"an image has {note}: {ADVICE[note]}, or give uint8", stacklevel=2)
    return decode(record.data)


def to_inputs(images: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """Images as the encoder was trained on them.

    Args:
        images: (n, height, width, 3), or n arrays (height, width, 3) of any sizes; uint8, or float in [0, 1].
        about: the encoder's config.json: its side, mean and standard deviation.

    Returns:
        (n, 3, side, side) float32.

    Raises:
        DataError: another shape or type.
    """
    import torch

    if isinstance(images, np.ndarray) or not len(images):
        return Inputs(_resized(np.asarray(images), about))
    return Inputs(torch.cat([_resized(np.asarray(image)[None], about) for image in images]))


def _resized(images: np.ndarray, about: Mapping[str, object]) -> Tensor:
    import torch

    if images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(f"images have the shape {images.shape}: give (number, height, width, 3)")
    if images.dtype == np.uint8:
        scaled = images.astype(np.float32) / 255.0
    elif np.issubdtype(images.dtype, np.floating):
        scaled = images.astype(np.float32)
    else:
        raise DataError(f"images have the type {images.dtype}: give uint8 from 0 to 255 or float from 0 to 1")
    encoder = encoder_block(about, VisionEncoderConfig)
    if encoder.is_from_elsewhere:
        raise DataError(
            f"the encoder takes {encoder.channels} channel(s) of {encoder.image_px} x "
            f"{encoder.columns * encoder.patch_px} values, such as spectrograms, which are not made of images: give "
            "Inputs of (items, channels, height, width) to Model.features"
        )
    side = encoder.image_px
    tensor = torch.from_numpy(scaled).permute(0, 3, 1, 2)
    resize = about.get("resize")
    tensor = _framed(tensor, resize, side) if isinstance(resize, Mapping) else _sized(tensor, (side, side), "bicubic")
    mean, std = (torch.tensor(about[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (tensor - mean) / std


def _sized(images: Tensor, size: tuple[int, int], resample: str) -> Tensor:
    """(n, 3, height, width) of another size, from 0 to 1."""
    from torch.nn.functional import interpolate

    if tuple(images.shape[-2:]) == size:
        return images
    if resample == "nearest":
        return interpolate(images, size, mode="nearest-exact")
    return interpolate(images, size, mode=resample, antialias=True).clamp(0.0, 1.0)


def _framed(images: Tensor, resize: Mapping[str, Any], side: int) -> Tensor:
    """Images as an encoder from elsewhere takes them: `to` a shorter side or (height, width), then the centre.

    Raises:
        DataError: neither gives the encoder's side.
    """
    height, width = images.shape[-2:]
    to = resize["to"]
    if isinstance(to, int):
        short, long = sorted((height, width))
        rest = int(to * long / short)
        images = _sized(images, (to, rest) if height <= width else (rest, to), resize["resample"])
    elif to is not None:
        images = _sized(images, (to[0], to[1]), resize["resample"])
    if resize["crop"] is not None:
        images = _centre(images, int(resize["crop"]))
    if tuple(images.shape[-2:]) != (side, side):
        raise DataError(
            f"an image is of {width} x {height} px, and this encoder's images are not resized: give {side} x {side} px"
        )
    return images


def _centre(images: Tensor, side: int) -> Tensor:
    """The central square; what is smaller gets black around it."""
    from torch.nn.functional import pad

    height, width = images.shape[-2:]
    low, wide = max(side - height, 0), max(side - width, 0)
    if low or wide:
        images = pad(images, (wide // 2, (wide + 1) // 2, low // 2, (low + 1) // 2))
        height, width = images.shape[-2:]
    top, left = int((height - side) / 2.0), int((width - side) / 2.0)
    return images[..., top : top + side, left : left + side]


def _example(about: Mapping[str, object]) -> dict[str, str]:
    """A black image."""
    file, side = io.BytesIO(), encoder_block(about, VisionEncoderConfig).image_px
    Image.new("RGB", (side, side)).save(file, "PNG")
    return {COLUMN: base64.b64encode(file.getvalue()).decode()}


def _read(cells: Mapping[str, object], limits: Limits) -> np.ndarray:
    with refusing("image"):
        return _decoded(file_in(cells[COLUMN]), limits)


REQUEST = Request((COLUMN,), _example, _read)
"""Images as files: PNG, JPEG and whatever else Pillow reads."""


def preprocessing(about: Mapping[str, object]) -> Preprocessing:
    """transformers' image processor that makes the same inputs."""
    side = encoder_block(about, VisionEncoderConfig).image_px
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": BICUBIC,
        **_resizing(about.get("resize")),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": about["mean"],
        "image_std": about["std"],
    }
    processor["d2v_note"] = RESIZING
    return Preprocessing({"preprocessor_config.json": json.dumps(processor, indent=2) + "\n"}, (RESIZING,))


def _resizing(resize: object) -> dict[str, object]:
    """What an image processor says of `resize`; nothing where images are resized as ours."""
    if not isinstance(resize, Mapping):
        return {}
    to, crop = resize["to"], resize["crop"]
    size = {"shortest_edge": to} if isinstance(to, int) else to and {"height": to[0], "width": to[1]}
    said: dict[str, object] = {"do_resize": to is not None} | ({"size": size} if size else {})
    said |= {"resample": next(number for number, name in RESAMPLING.items() if name == resize["resample"])}
    if crop is None:
        return said
    # ViT's processor does not crop, and Beit's does
    cropped = {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}}
    return said | cropped | {"image_processor_type": "BeitImageProcessor"}
